//! Who may send.

use ipnet::IpNet;
use std::net::IpAddr;

/// Lets in whom a list of prefixes names, and counts the others.
pub(super) struct Gate {
    allow: Vec<IpNet>,
    // The last sender, and whether it may: datagrams of one follow each other.
    last: Option<(IpAddr, bool)>,
    pub refused: u64,
}

impl Gate {
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow, last: None, refused: 0 }
    }

    /// Whether what this sender sends is looked at.
    #[inline]
    pub fn allows(&mut self, sender: IpAddr) -> bool {
        let allowed = match self.last {
            Some((last, allowed)) if last == sender => allowed,
            _ => self.allow.iter().any(|prefix| prefix.contains(&sender)),
        };
        self.last = Some((sender, allowed));
        allowed
    }

    /// The same, of a datagram that is counted.
    #[inline]
    pub fn lets(&mut self, sender: IpAddr) -> bool {
        let allowed = self.allows(sender);
        self.refused += u64::from(!allowed);
        allowed
    }
}
