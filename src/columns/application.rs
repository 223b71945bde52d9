//! What an application is known by: RFC 6759.

use std::fmt;
use std::str::FromStr;

/// An application id (element 95): a classification engine and its selector, and whose selectors they are where the
/// engine (20) leaves that open.
///
/// ```
/// use flowlane::columns::ApplicationId;
///
/// let id = ApplicationId::from_octets(&[20, 0, 0, 0x30, 0x44, 0, 0, 0x8f, 0x34]).expect("an id");
/// assert_eq!(id.to_string(), "20:12356:36660");
/// assert_eq!("20:12356:36660".parse(), Ok(id));
/// assert_eq!(ApplicationId::from_octets(&[3, 0, 0, 80]), "3:80".parse().ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApplicationId {
    engine: u8,
    pen: Option<u32>,
    selector: u128,
}

/// The engine whose selectors are an enterprise's.
const OF_ENTERPRISE: u8 = 20;

impl ApplicationId {
    /// From the octets of the element: the engine, an enterprise number for engine 20, a selector of at most 16 octets.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let number = |octets: &[u8]| octets.iter().fold(0u128, |n, &b| n << 8 | u128::from(b));
        match octets {
            [OF_ENTERPRISE, a, b, c, d, selector @ ..] if (1..=16).contains(&selector.len()) => Some(Self {
                engine: OF_ENTERPRISE,
                pen: Some(u32::from_be_bytes([*a, *b, *c, *d])),
                selector: number(selector),
            }),
            [engine, selector @ ..] if selector.len() <= 16 => {
                Some(Self { engine: *engine, pen: None, selector: number(selector) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for ApplicationId {
    /// Engine, enterprise and selector in decimal, with colons between them: the column `app_id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pen {
            Some(pen) => write!(f, "{}:{pen}:{}", self.engine, self.selector),
            None => write!(f, "{}:{}", self.engine, self.selector),
        }
    }
}

/// A text that is no application id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoApplicationId;

impl fmt::Display for NoApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an application id is engine:selector or 20:enterprise:selector, in decimal")
    }
}

impl std::error::Error for NoApplicationId {}

impl FromStr for ApplicationId {
    type Err = NoApplicationId;

    fn from_str(text: &str) -> Result<Self, NoApplicationId> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(NoApplicationId);
        let (engine, second) = (next()?, next()?);
        let engine = engine.parse().map_err(|_| NoApplicationId)?;
        let number = |text: &str| text.parse().map_err(|_| NoApplicationId);
        match next() {
            Err(_) => Ok(Self { engine, pen: None, selector: number(second)? }),
            Ok(third) if engine == OF_ENTERPRISE && parts.next().is_none() => {
                let pen = second.parse().map_err(|_| NoApplicationId)?;
                Ok(Self { engine, pen: Some(pen), selector: number(third)? })
            }
            Ok(_) => Err(NoApplicationId),
        }
    }
}
