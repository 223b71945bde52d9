//! Information elements: what an id means.
//!
//! The table is generated from the IANA registry, vendors' lists, and the NetFlow v9 types above 32767, which are plain
//! types without an enterprise number. Reverse elements (RFC 5103: enterprise number 29305, and CERT's own with bit 14
//! of the id set) are made from their forward ones.

mod table;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// The enterprise number of the reverse of every IANA element (RFC 5103 section 6.1).
pub const REVERSE_PEN: u32 = 29305;
/// CERT, whose own elements have their reverse under `id | 0x4000`.
const CERT_PEN: u32 = 6871;

/// The abstract data types of RFC 7011 section 6.1, RFC 6313 and IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum DataType {
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Unsigned256,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Float32,
    Float64,
    Boolean,
    MacAddress,
    OctetArray,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    BasicList,
    SubTemplateList,
    SubTemplateMultiList,
}

impl DataType {
    const ALL: [(&'static str, Self); 24] = [
        ("unsigned8", Self::Unsigned8),
        ("unsigned16", Self::Unsigned16),
        ("unsigned32", Self::Unsigned32),
        ("unsigned64", Self::Unsigned64),
        ("unsigned256", Self::Unsigned256),
        ("signed8", Self::Signed8),
        ("signed16", Self::Signed16),
        ("signed32", Self::Signed32),
        ("signed64", Self::Signed64),
        ("float32", Self::Float32),
        ("float64", Self::Float64),
        ("boolean", Self::Boolean),
        ("macAddress", Self::MacAddress),
        ("octetArray", Self::OctetArray),
        ("string", Self::String),
        ("dateTimeSeconds", Self::DateTimeSeconds),
        ("dateTimeMilliseconds", Self::DateTimeMilliseconds),
        ("dateTimeMicroseconds", Self::DateTimeMicroseconds),
        ("dateTimeNanoseconds", Self::DateTimeNanoseconds),
        ("ipv4Address", Self::Ipv4Address),
        ("ipv6Address", Self::Ipv6Address),
        ("basicList", Self::BasicList),
        ("subTemplateList", Self::SubTemplateList),
        ("subTemplateMultiList", Self::SubTemplateMultiList),
    ];

    /// Whether values stand as their bytes where no column takes them, not as a number.
    pub(crate) fn is_bytes(self) -> bool {
        use DataType as D;
        matches!(
            self,
            D::OctetArray
                | D::String
                | D::MacAddress
                | D::Ipv4Address
                | D::Ipv6Address
                | D::BasicList
                | D::SubTemplateList
                | D::SubTemplateMultiList
                | D::Float32
                | D::Float64
                | D::Signed8
                | D::Signed16
                | D::Signed32
                | D::Signed64
        )
    }

    /// Whether values are unsigned integers of 64 bits at most.
    pub(crate) fn is_unsigned(self) -> bool {
        matches!(self, Self::Unsigned8 | Self::Unsigned16 | Self::Unsigned32 | Self::Unsigned64)
    }

    /// The type of this name in IANA's registry, whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|t| t.0.eq_ignore_ascii_case(name)).map(|t| t.1)
    }

    /// The registry's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|t| t.1 == self).map_or("", |t| t.0)
    }
}

/// An information element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The private enterprise number; 0 for IANA's elements and v9's types.
    pub pen: u32,
    /// The id, without the enterprise bit.
    pub id: u16,
    /// Its name.
    pub name: Arc<str>,
    /// The type of its values.
    pub data_type: DataType,
    /// What kind of quantity it is, as the registry says; may be empty.
    pub semantics: &'static str,
    /// Its unit, as the registry says; may be empty.
    pub units: &'static str,
}

/// The names of v9's scope types 1 to 5, which are a namespace of their own (RFC 3954 section 6.1).
pub fn v9_scope_name(scope_type: u16) -> Option<&'static str> {
    Some(match scope_type {
        1 => "System",
        2 => "Interface",
        3 => "Line Card",
        4 => "Cache",
        5 => "Template",
        _ => return None,
    })
}

/// The name of a v9 field type in Python's `netflow` package.
pub fn v9_name(id: u16) -> Option<&'static str> {
    let at = table::V9_NAMES.binary_search_by_key(&id, |n| n.0).ok()?;
    Some(table::V9_NAMES[at].1)
}

/// A wrong line of a user's element file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for OverrideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}; a line is `pen,id,name,type`", self.line, self.reason)
    }
}

impl std::error::Error for OverrideError {}

/// All known elements.
#[derive(Clone, Debug)]
pub struct Registry {
    by_id: HashMap<(u32, u16), Element>,
    by_name: HashMap<String, (u32, u16)>,
    // Names that stand for more than one id of an enterprise: such elements are told apart by id.
    repeated: HashSet<(u32, Arc<str>)>,
}

impl Registry {
    /// The generated table with its reverse elements.
    pub fn standard() -> &'static Arc<Self> {
        static STANDARD: LazyLock<Arc<Registry>> = LazyLock::new(|| Arc::new(Registry::build()));
        &STANDARD
    }

    /// The standard elements, and those of a user's file beside or in place of them: lines `pen,id,name,type`, with
    /// IANA's type names; empty lines, lines that start with `#` and a first line `pen,id,name,type` are passed over.
    ///
    /// # Errors
    /// The first line that is wrong.
    ///
    /// ```
    /// use flowlane::elements::{DataType, Registry};
    /// let registry = Registry::with_overrides("32473,7,spin,unsigned16\n")?;
    /// assert_eq!(registry.lookup(10, 32473, 7).map(|e| e.data_type), Some(DataType::Unsigned16));
    /// # Ok::<(), flowlane::elements::OverrideError>(())
    /// ```
    pub fn with_overrides(csv: &str) -> Result<Self, OverrideError> {
        let mut registry = Self::standard().as_ref().clone();
        // Some editors begin text with a byte order mark.
        for (i, line) in csv.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || i == 0 && line.eq_ignore_ascii_case("pen,id,name,type") {
                continue;
            }
            let wrong = |reason: String| OverrideError { line: i + 1, reason };
            let parts: Vec<&str> = line.split(',').map(str::trim).collect();
            let &[pen, id, name, kind] = parts.as_slice() else {
                return Err(wrong(format!("{} values in place of 4", parts.len())));
            };
            let pen = pen.parse().map_err(|_| wrong(format!("{pen:?} is no enterprise number")))?;
            let id: u16 = id.parse().map_err(|_| wrong(format!("{id:?} is no element id")))?;
            if pen != 0 && id > 0x7fff {
                return Err(wrong(format!("{id} is above 32767")));
            }
            if name.is_empty() {
                return Err(wrong("the name is empty".to_owned()));
            }
            let data_type = DataType::from_name(kind).ok_or_else(|| wrong(format!("{kind:?} is no type")))?;
            registry.insert(Element { pen, id, name: name.into(), data_type, semantics: "", units: "" });
        }
        Ok(registry)
    }

    /// An element; in v9, ids above 32767 are plain types of vendors.
    #[inline]
    pub fn lookup(&self, version: u8, pen: u32, id: u16) -> Option<&Element> {
        if version != 9 && pen == 0 && id > 0x7fff {
            return None;
        }
        self.by_id.get(&(pen, id))
    }

    /// An element by IANA name, `pen/name`, or the name of its v9 type.
    pub fn by_name(&self, name: &str) -> Option<&Element> {
        if let Some(key) = self.by_name.get(name) {
            return self.by_id.get(key);
        }
        let id = table::V9_NAMES.iter().find(|n| n.1 == name)?.0;
        self.by_id.get(&(0, id))
    }

    /// The key of an element among extras: IANA's name, `pen/name`, `pen/id` where the name is unknown or not unique,
    /// the bare number where IANA has no name or a user's file gave one name twice, `v9/number` for v9's types above 32767.
    pub fn key(&self, version: u8, pen: u32, id: u16) -> String {
        if pen == 0 && id > 0x7fff {
            return format!("v9/{id}");
        }
        match self.lookup(version, pen, id) {
            Some(e) if !self.repeated.contains(&(pen, e.name.clone())) => match pen {
                0 => e.name.to_string(),
                _ => format!("{pen}/{}", e.name),
            },
            _ if pen == 0 => id.to_string(),
            _ => format!("{pen}/{id}"),
        }
    }

    /// Every element, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Element> {
        self.by_id.values()
    }

    fn build() -> Self {
        let mut registry = Self { by_id: HashMap::new(), by_name: HashMap::new(), repeated: HashSet::new() };
        for &(pen, id, name, data_type, semantics, units) in table::ELEMENTS {
            registry.insert(Element { pen, id, name: name.into(), data_type, semantics, units });
        }
        for &(pen, id, name, data_type, semantics, units) in table::ELEMENTS {
            let (pen, id) = match pen {
                0 if id <= 0x7fff => (REVERSE_PEN, id),
                CERT_PEN if id & 0x4000 == 0 => (CERT_PEN, id | 0x4000),
                _ => continue,
            };
            if !registry.by_id.contains_key(&(pen, id)) {
                registry.insert(Element { pen, id, name: reverse(name).into(), data_type, semantics, units });
            }
        }
        registry
    }

    fn insert(&mut self, element: Element) {
        let key = (element.pen, element.id);
        if let Some(old) = self.by_id.remove(&key) {
            self.by_name.retain(|_, k| *k != key);
            self.repeated.remove(&(old.pen, old.name));
        }
        let name =
            if element.pen == 0 { element.name.to_string() } else { format!("{}/{}", element.pen, element.name) };
        if let Some(other) = self.by_name.insert(name, key)
            && other != key
        {
            self.repeated.insert((element.pen, element.name.clone()));
        }
        self.by_id.insert(key, element);
    }
}

/// The name of a reverse element: RFC 5103 section 6.1.
fn reverse(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    "reverse".chars().chain(first).chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys() {
        let r = Registry::standard();
        assert_eq!(r.key(10, 0, 8), "sourceIPv4Address");
        assert_eq!(r.key(10, REVERSE_PEN, 1), "29305/reverseOctetDeltaCount");
        assert_eq!(r.key(9, 0, 33000), "v9/33000");
        assert_eq!(r.key(9, 0, 12345), "12345");
        assert_eq!(r.key(10, 26866, 0), "26866/0");
        assert_eq!(r.by_name("L4_SRC_PORT").map(|e| e.id), Some(7));
        assert_eq!(r.by_name("octetDeltaCount").map(|e| e.data_type), Some(DataType::Unsigned64));
        assert_eq!(r.lookup(9, 0, 40000).map(|e| e.data_type), Some(DataType::String));
        assert!(r.lookup(10, 0, 40000).is_none());
        assert_eq!(r.lookup(10, CERT_PEN, 14 | 0x4000).map(|e| &*e.name), Some("reverseInitialTCPFlags"));
    }

    #[test]
    fn a_name_that_stands_twice_in_a_vendors_list_gives_way_to_the_id() {
        let r = Registry::standard();
        let twice: Vec<_> = r.iter().filter(|e| e.pen == 26866 && &*e.name == "ssl_server_name_raw").collect();
        assert_eq!(twice.len(), 2);
        assert!(twice.iter().all(|e| r.key(10, e.pen, e.id) == format!("26866/{}", e.id)));
    }

    #[test]
    fn wrong_lines_of_a_users_file_are_named() {
        let line = |text| Registry::with_overrides(text).map(|_| ()).map_err(|e| e.line);
        assert_eq!(line("pen,id,name,type\n# mine\n0,1,bytes,unsigned32\n"), Ok(()));
        assert_eq!(line("1,2,x,unsigned8\n1,2,x\n"), Err(2));
        assert_eq!(line("1,2,x,word"), Err(1));
        assert_eq!(line("1,99999,x,string"), Err(1));
        assert_eq!(line("1,40000,x,string"), Err(1));
        assert_eq!(line("\u{feff}pen,id,name,type\n0,1,bytes,unsigned32\n"), Ok(()));
        let twice = Registry::with_overrides("0,60,dup,unsigned8\n0,32,dup,unsigned16").expect("right lines");
        assert_eq!((twice.key(10, 0, 60), twice.key(10, 0, 32)), ("60".to_owned(), "32".to_owned()));
        let r = Registry::with_overrides("0,1,bytes,unsigned32").expect("a right line");
        assert_eq!(r.key(10, 0, 1), "bytes");
        assert!(r.by_name("octetDeltaCount").is_none());
    }
}
