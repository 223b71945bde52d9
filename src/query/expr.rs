//! What a filter is made of: tests of columns, and what joins them.

use crate::columns::ColumnType;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Test(Column, Set),
    All,
}

/// What a test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Column {
    One(&'static str, ColumnType),
    /// An address of either family.
    Pair(&'static str, &'static str),
    /// `flow_end` less `flow_start`, milliseconds.
    Duration,
    /// What follows from a flow's counters.
    Rate(Rate),
    /// A column of an extra, by its name in files.
    Extra(String),
    /// Eight bits of a number, from this one on.
    Octet(&'static str, u32),
    /// A label of the stack, the topmost is 0.
    Label(usize),
}

/// A flow's own rates, rounded down; 0 where it took no time or had no packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// Bits a second.
    Bps,
    /// Packets a second.
    Pps,
    /// Bytes a packet.
    Bpp,
}

/// What a value has to be in.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Set {
    /// Whole numbers and times, inclusive.
    Ranges(Vec<(i128, i128)>),
    Floats(Vec<(f64, f64)>),
    Addresses {
        v4: Vec<(u32, u32)>,
        v6: Vec<(u128, u128)>,
    },
    Texts(Vec<String>),
    Octets(Vec<Vec<u8>>),
    /// All bits of one of these.
    Bits(Vec<u64>),
    /// No bit of any of these.
    NoBits(Vec<u64>),
    Bool(bool),
    Present,
}

impl Column {
    /// The columns of a file that it is made of.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::One(name, _) => vec![(*name).to_string()],
            Self::Pair(v4, v6) => vec![(*v4).to_string(), (*v6).to_string()],
            Self::Duration => ["flow_start", "flow_end"].map(String::from).to_vec(),
            Self::Rate(Rate::Bps) => ["bytes", "flow_start", "flow_end"].map(String::from).to_vec(),
            Self::Rate(Rate::Pps) => ["packets", "flow_start", "flow_end"].map(String::from).to_vec(),
            Self::Rate(Rate::Bpp) => ["bytes", "packets"].map(String::from).to_vec(),
            Self::Extra(name) => vec![name.clone()],
            Self::Octet(name, _) => vec![(*name).to_string()],
            Self::Label(_) => vec!["mpls_labels".to_string()],
        }
    }
}

/// Any of some tests.
pub(super) fn any(tests: Vec<Expr>) -> Expr {
    tests.into_iter().reduce(|a, b| Expr::Or(Box::new(a), Box::new(b))).unwrap_or(Expr::All)
}

/// What holds where a filter does not. Of TCP flags by letter, none is set: `not flags AF` is neither A nor F, as nfdump's
/// users know it, so that a `not` goes down to such tests, and two of them are none.
pub(super) fn negated(expr: Expr) -> Expr {
    if !has_flags(&expr) {
        return Expr::Not(Box::new(expr));
    }
    match expr {
        Expr::And(a, b) => Expr::Or(Box::new(negated(*a)), Box::new(negated(*b))),
        Expr::Or(a, b) => Expr::And(Box::new(negated(*a)), Box::new(negated(*b))),
        Expr::Not(a) => *a,
        Expr::Test(column, Set::Bits(bits)) => Expr::Test(column, Set::NoBits(bits)),
        Expr::Test(column, Set::NoBits(bits)) => Expr::Test(column, Set::Bits(bits)),
        other => Expr::Not(Box::new(other)),
    }
}

fn has_flags(expr: &Expr) -> bool {
    match expr {
        Expr::And(a, b) | Expr::Or(a, b) => has_flags(a) || has_flags(b),
        Expr::Not(a) => has_flags(a),
        Expr::Test(_, set) => matches!(set, Set::Bits(_) | Set::NoBits(_)),
        Expr::All => false,
    }
}

/// Flags by letter that are to be equal, not among others.
pub(super) fn exactly(set: Set) -> Set {
    match set {
        Set::Bits(bits) => Set::Ranges(bits.into_iter().map(|b| (b.into(), b.into())).collect()),
        other => other,
    }
}

/// The values of two sets of a kind.
pub(super) fn merge(a: Set, b: Set) -> Set {
    match (a, b) {
        (Set::Ranges(a), Set::Ranges(b)) => Set::Ranges([a, b].concat()),
        (Set::Floats(a), Set::Floats(b)) => Set::Floats([a, b].concat()),
        (Set::Texts(a), Set::Texts(b)) => Set::Texts([a, b].concat()),
        (Set::Octets(a), Set::Octets(b)) => Set::Octets([a, b].concat()),
        (Set::Bits(a), Set::Bits(b)) => Set::Bits([a, b].concat()),
        // Letters and numbers of flags side by side: a number is all of the flags.
        (Set::Bits(bits), Set::Ranges(ranges)) | (Set::Ranges(ranges), Set::Bits(bits)) => {
            Set::Bits(bits.into_iter().chain(ranges.iter().filter_map(|r| u64::try_from(r.0).ok())).collect())
        }
        (Set::Addresses { v4: a4, v6: a6 }, Set::Addresses { v4: b4, v6: b6 }) => {
            Set::Addresses { v4: [a4, b4].concat(), v6: [a6, b6].concat() }
        }
        (_, b) => b,
    }
}
