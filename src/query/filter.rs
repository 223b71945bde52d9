//! The filter language.
//!
//! ```text
//! filter    = and { "or" and }
//! and       = not { ["and"] not }
//! not       = "not" not | "(" filter ")" | test
//! test      = field ("=" | "!=" | "<" | "<=" | ">" | ">=") value
//!           | field ["in"] value { "," value }      a value may be a range: 1024..65535
//!           | field "is" ("absent" | "present")
//!           | "last" span                           received so long ago at most: last 1h
//! field     = a column, an element, or a word of nfdump: src ip, dst port, host, net, port, as, in if, flags, bps, ...
//! ```

use super::dedup::Duplicates;
pub(super) use super::expr::{Column, Expr, Rate, Set};
use super::expr::{any, exactly, merge, negated};
use super::field::{Field, field};
use super::literal::{Kind, direction, event, flags, forwarding, mac, masked, number, prefix, span, time, what};
use super::names;
use crate::columns::ColumnType;
use crate::sink::schema::SCHEMA;
use std::fmt;
use std::sync::Arc;

/// What rows are asked for.
///
/// ```
/// use flowlane::query::Filter;
///
/// let filter = Filter::parse("proto tcp and dst port 443 and not src net 10/8", 0)?;
/// assert_eq!(filter.columns(), ["dst_port", "proto", "src_ip4", "src_ip6"]);
/// let error = Filter::parse("proto tpc", 0).expect_err("a typo");
/// assert_eq!(error.offset, 6);
/// # Ok::<(), flowlane::query::FilterError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub(super) expr: Expr,
    pub(super) duplicates: Option<Arc<Duplicates>>,
}

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The byte of the text.
    pub offset: usize,
    /// What was expected there.
    pub expected: String,
    text: String,
}

impl fmt::Display for FilterError {
    /// On one line, the place in the text marked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.text.split_at_checked(self.offset).unwrap_or((&self.text, ""));
        write!(f, "in the filter, at `{before}>>>{after}`: expected {}", self.expected)
    }
}

impl std::error::Error for FilterError {}

impl Default for Filter {
    /// Every row.
    fn default() -> Self {
        Self { expr: Expr::All, duplicates: None }
    }
}

impl Filter {
    /// Reads a filter; times like `last 1h` are before `now_us`, microseconds since 1970. No text is every row.
    ///
    /// # Errors
    /// [`FilterError`], which tells the place and what was expected there.
    pub fn parse(text: &str, now_us: i64) -> Result<Self, FilterError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { text, tokens, at: 0, now_us, depth: 0, tests: 0 };
        if parser.tokens.is_empty() {
            return Ok(Self::default());
        }
        let expr = parser.any()?;
        match parser.peek() {
            None => Ok(Self { expr, duplicates: None }),
            Some(_) => Err(parser.expected("and, or, or the end")),
        }
    }

    /// The same filter, which does not hold for these records.
    #[must_use]
    pub fn without(self, duplicates: Duplicates) -> Self {
        Self { duplicates: Some(Arc::new(duplicates)), ..self }
    }

    /// Of its rows those received from one microsecond since 1970 to another, both included.
    #[must_use]
    pub fn received(self, from_us: Option<i64>, to_us: Option<i64>) -> Self {
        if from_us.is_none() && to_us.is_none() {
            return self;
        }
        let range = (from_us.map_or(i128::MIN, Into::into), to_us.map_or(i128::MAX, Into::into));
        let time = Expr::Test(Column::One("time_received", ColumnType::Timestamp), Set::Ranges(vec![range]));
        let expr = if self.expr == Expr::All { time } else { Expr::And(Box::new(time), Box::new(self.expr)) };
        Self { expr, ..self }
    }

    /// The columns that it looks at, in order of their names.
    pub fn columns(&self) -> Vec<String> {
        fn walk(expr: &Expr, names: &mut Vec<String>) {
            match expr {
                Expr::And(a, b) | Expr::Or(a, b) => {
                    walk(a, names);
                    walk(b, names);
                }
                Expr::Not(a) => walk(a, names),
                Expr::Test(column, _) => names.extend(column.names()),
                Expr::All => {}
            }
        }
        let mut names = Vec::new();
        walk(&self.expr, &mut names);
        names.extend(self.duplicates.iter().flat_map(|d| d.columns()));
        names.sort();
        names.dedup();
        names
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    at: usize,
    quoted: bool,
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut found: Vec<Token> = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        if c == '#' {
            // A remark, to the end of its line.
            while chars.next_if(|n| n.1 != '\n').is_some() {}
            continue;
        }
        if matches!(c, '"' | '\'') {
            let mut word = String::new();
            loop {
                match chars.next() {
                    Some((_, end)) if end == c => break,
                    Some((_, inside)) => word.push(inside),
                    None => {
                        let expected = format!("a closing {c}");
                        return Err(FilterError { offset: text.len(), expected, text: text.to_string() });
                    }
                }
            }
            found.push(Token { text: word, at, quoted: true });
            continue;
        }
        let mut word = String::from(c);
        let next = chars.peek().map(|n| n.1);
        match (c, next) {
            ('(' | ')' | '[' | ']' | '{' | '}' | ',', _) => {}
            ('!' | '<' | '>' | '=', Some('=')) | ('&', Some('&')) | ('|', Some('|')) => {
                word.extend(chars.next().map(|n| n.1));
            }
            ('!' | '<' | '>' | '=', _) => {}
            _ => {
                while let Some((_, n)) = chars.next_if(|n| !n.1.is_whitespace() && !"()[]{},!<>=&|\"'".contains(n.1)) {
                    word.push(n);
                }
            }
        }
        found.push(Token { text: word, at, quoted: false });
    }
    Ok(found)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    at: usize,
    now_us: i64,
    depth: usize,
    tests: usize,
}

/// Tests of a filter at most: it is a tree, which is walked by calls.
const TESTS: usize = 1000;

/// How deep parentheses may go.
const DEPTH: usize = 64;

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, ahead: usize, words: &[&str]) -> bool {
        let token = self.tokens.get(self.at + ahead).filter(|t| !t.quoted);
        token.is_some_and(|t| words.iter().any(|w| t.text.eq_ignore_ascii_case(w)))
    }

    fn take(&mut self, words: &[&str]) -> bool {
        let taken = self.is(0, words);
        self.at += usize::from(taken);
        taken
    }

    fn expected(&self, what: impl Into<String>) -> FilterError {
        let offset = self.peek().map_or(self.text.len(), |t| t.at);
        FilterError { offset, expected: what.into(), text: self.text.to_string() }
    }

    fn any(&mut self) -> Result<Expr, FilterError> {
        let mut expr = self.all()?;
        while self.take(&["or", "||"]) {
            expr = Expr::Or(Box::new(expr), Box::new(self.all()?));
        }
        Ok(expr)
    }

    fn all(&mut self) -> Result<Expr, FilterError> {
        let mut expr = self.not()?;
        while self.take(&["and", "&&"]) || self.peek().is_some() && !self.is(0, &["or", "||", ")"]) {
            expr = Expr::And(Box::new(expr), Box::new(self.not()?));
        }
        Ok(expr)
    }

    fn not(&mut self) -> Result<Expr, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.expected(format!("at most {DEPTH} parentheses and nots inside each other")));
        }
        let expr = if self.take(&["not", "!"]) {
            negated(self.not()?)
        } else if self.take(&["("]) {
            let inside = self.any()?;
            if !self.take(&[")"]) {
                return Err(self.expected("and, or, or )"));
            }
            inside
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn test(&mut self) -> Result<Expr, FilterError> {
        self.tests += 1;
        if self.tests > TESTS {
            return Err(self.expected(format!("at most {TESTS} tests; a list of values is one")));
        }
        if self.take(&["any", "all"]) {
            return Ok(Expr::All);
        }
        if self.take(&["last"]) {
            let us = self.span().ok_or_else(|| self.expected("a time like 30s, 15m, 1h or 7d"))?;
            self.at += 1;
            let from = i128::from(self.now_us) - us;
            return Ok(Expr::Test(one("time_received")?, Set::Ranges(vec![(from, i128::MAX)])));
        }
        if self.take(&["ipv4", "inet"]) {
            return Ok(family(&["src_ip4", "dst_ip4"]));
        }
        if self.take(&["ipv6", "inet6"]) {
            return Ok(family(&["src_ip6", "dst_ip6"]));
        }
        let field = self.field()?;
        if self.take(&["is"]) {
            let absent = self.take(&["absent", "null"]);
            if !absent && !self.take(&["present"]) {
                return Err(self.expected("absent or present"));
            }
            let present = any(field.columns.into_iter().map(|c| Expr::Test(c, Set::Present)).collect());
            return Ok(if absent { Expr::Not(Box::new(present)) } else { present });
        }
        let (mut compare, mut other, mut listed) = (None, false, false);
        if self.take(&["not"]) {
            if !self.is(0, &["in"]) {
                return Err(self.expected("in"));
            }
            other = true;
        }
        if self.is(0, &["=", "==", "!=", "<", "<=", ">", ">=", "lt", "gt", "eq"]) {
            let token = self.peek().map(|t| t.text.to_ascii_lowercase()).unwrap_or_default();
            self.at += 1;
            other = token == "!=";
            compare = Some(match token.as_str() {
                "<" | "lt" => Bound::Below,
                "<=" => Bound::AtMost,
                ">" | "gt" => Bound::Above,
                ">=" => Bound::AtLeast,
                _ => Bound::Equal,
            });
        } else {
            listed = self.take(&["in"]);
        }
        let set = match compare {
            Some(bound) if bound != Bound::Equal => self.bounded(&field, bound)?,
            Some(_) => exactly(self.set(&field, false)?),
            None if listed => exactly(self.set(&field, true)?),
            None => self.set(&field, true)?,
        };
        let tests = field.columns.into_iter().map(|column| Expr::Test(column, set.clone())).collect();
        let expr = any(tests);
        Ok(if other { Expr::Not(Box::new(expr)) } else { expr })
    }

    /// The field that the next words name.
    fn field(&mut self) -> Result<Field, FilterError> {
        let words = self.tokens.get(self.at..).unwrap_or_default().iter().take(3).take_while(|t| !t.quoted);
        let words: Vec<&str> = words.map(|t| t.text.as_str()).collect();
        match field(&words) {
            Ok((field, words)) => {
                self.at += words;
                Ok(field)
            }
            Err((word, expected)) => {
                self.at += word;
                Err(self.expected(expected))
            }
        }
    }

    /// A number of microseconds, like 30s or 7d; the token is not taken.
    fn span(&self) -> Option<i128> {
        span(&self.peek()?.text)
    }

    /// The value after a comparison that is no equality.
    fn bounded(&mut self, field: &Field, bound: Bound) -> Result<Set, FilterError> {
        match field.kind {
            Kind::Number
            | Kind::Port
            | Kind::Protocol
            | Kind::Time
            | Kind::Duration
            | Kind::Event
            | Kind::Forwarding
            | Kind::Flags
            | Kind::Extra => {
                let (low, high) = self.range(field.kind)?;
                Ok(Set::Ranges(vec![match bound {
                    Bound::Below => (i128::MIN, low - 1),
                    Bound::AtMost => (i128::MIN, high),
                    Bound::Above => (high + 1, i128::MAX),
                    Bound::AtLeast | Bound::Equal => (low, i128::MAX),
                }]))
            }
            Kind::Float => {
                let value = self.float()?;
                Ok(Set::Floats(vec![match bound {
                    Bound::Below => (f64::NEG_INFINITY, value.next_down()),
                    Bound::AtMost => (f64::NEG_INFINITY, value),
                    Bound::Above => (value.next_up(), f64::INFINITY),
                    Bound::AtLeast | Bound::Equal => (value, f64::INFINITY),
                }]))
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                Err(self.expected("=, != or in: these values have no order"))
            }
        }
    }

    /// One value, or a list.
    fn set(&mut self, field: &Field, list: bool) -> Result<Set, FilterError> {
        let open = list && self.take(&["[", "(", "{"]);
        let mut set = self.value(field.kind)?;
        loop {
            let comma = (list || open) && self.take(&[","]);
            if open && self.take(&["]", ")", "}"]) {
                return Ok(set);
            }
            if !comma && !open {
                return Ok(set);
            }
            if self.peek().is_none() {
                return Err(self.expected(if open {
                    "another value, or the end of the list"
                } else {
                    "another value"
                }));
            }
            set = merge(set, self.value(field.kind)?);
        }
    }

    fn value(&mut self, kind: Kind) -> Result<Set, FilterError> {
        let Some(token) = self.peek().cloned() else { return Err(self.expected(what(kind))) };
        let set = match kind {
            Kind::Number
            | Kind::Port
            | Kind::Protocol
            | Kind::Time
            | Kind::Duration
            | Kind::Event
            | Kind::Forwarding
            | Kind::Direction => return Ok(Set::Ranges(vec![self.range(kind)?])),
            Kind::Float => {
                if let Some((low, high)) = token.text.split_once("..") {
                    let of = |text: &str| text.parse::<f64>().ok().filter(|v| v.is_finite());
                    let (low, high) = of(low).zip(of(high)).ok_or_else(|| self.expected(what(kind)))?;
                    self.ordered(low <= high)?;
                    self.at += 1;
                    return Ok(Set::Floats(vec![(low, high)]));
                }
                let value = self.float()?;
                return Ok(Set::Floats(vec![(value, value)]));
            }
            Kind::Flags => match number(&token.text) {
                Some(bits) => Some(Set::Ranges(vec![(bits, bits)])),
                None => flags(&token.text).map(|bits| Set::Bits(vec![bits])),
            },
            Kind::Address => match self.tokens.get(self.at + 1).and_then(|mask| masked(&token.text, &mask.text)) {
                Some(set) => {
                    self.at += 1;
                    Some(set)
                }
                None => prefix(&token.text),
            },
            Kind::Text => Some(Set::Texts(vec![token.text.clone()])),
            Kind::Extra => {
                let numbers = token.text.split_once("..").and_then(|(a, b)| number(a).zip(number(b)));
                self.ordered(numbers.is_none_or(|(low, high)| low <= high))?;
                Some(Set::Texts(vec![token.text.clone()]))
            }
            Kind::Mac => mac(&token.text).map(|mac| Set::Octets(vec![mac])),
            Kind::Bool => match token.text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Some(Set::Bool(true)),
                "false" | "no" | "0" => Some(Set::Bool(false)),
                _ => None,
            },
        };
        match set {
            Some(set) => {
                self.at += 1;
                Ok(set)
            }
            None => Err(self.expected(what(kind))),
        }
    }

    fn float(&mut self) -> Result<f64, FilterError> {
        let value = self.peek().and_then(|t| t.text.parse::<f64>().ok()).filter(|v| v.is_finite());
        let value = value.ok_or_else(|| self.expected("a number"))?;
        self.at += 1;
        Ok(value)
    }

    /// A range that begins behind its end would hold for nothing.
    fn ordered(&self, ordered: bool) -> Result<(), FilterError> {
        if ordered { Ok(()) } else { Err(self.expected("a range from the lesser to the greater value")) }
    }

    /// A number, a name for one, or `low..high`.
    fn range(&mut self, kind: Kind) -> Result<(i128, i128), FilterError> {
        let Some(token) = self.peek().cloned() else { return Err(self.expected(what(kind))) };
        let one = |text: &str| -> Option<(i128, i128)> {
            let same = |n: i128| (n, n);
            match kind {
                Kind::Time => time(text, self.now_us),
                Kind::Duration => span(text).map(|us| same(us / 1000)).or_else(|| number(text).map(same)),
                Kind::Protocol => {
                    number(text).filter(|n| *n < 256).or_else(|| names::protocol(text).map(i128::from)).map(same)
                }
                Kind::Event => number(text).or_else(|| event(text)).map(same),
                Kind::Forwarding => number(text).map(same).or_else(|| forwarding(text)),
                Kind::Direction => number(text).or_else(|| direction(text)).map(same),
                Kind::Port => {
                    number(text).filter(|n| *n < 65_536).or_else(|| names::service(text).map(i128::from)).map(same)
                }
                _ => number(text).map(same),
            }
        };
        let found = match token.text.split_once("..") {
            Some((low, high)) => one(low).zip(one(high)).map(|(low, high)| (low.0, high.1)),
            None => one(&token.text),
        };
        match found {
            Some(range) => {
                self.ordered(range.0 <= range.1)?;
                self.at += 1;
                Ok(range)
            }
            None => Err(self.expected(what(kind))),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Equal,
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// A column of the schema.
fn one(name: &str) -> Result<Column, FilterError> {
    match SCHEMA.iter().find(|c| c.name == name) {
        Some(c) => Ok(Column::One(c.name, c.data_type)),
        None => Err(FilterError { offset: 0, expected: "a column".to_string(), text: name.to_string() }),
    }
}

fn family(names: &[&str]) -> Expr {
    any(names.iter().filter_map(|n| one(n).ok()).map(|c| Expr::Test(c, Set::Present)).collect())
}
