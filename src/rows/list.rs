//! RFC 6313 lists, nested in a record.

use super::record::{Described, Records, Shared};
use crate::elements::{DataType, Registry};
use crate::value::{BasicList, Context, Items, Parts, Value, decode, list_json};

/// A basicList, subTemplateList or subTemplateMultiList.
#[derive(Clone, Copy, Debug)]
pub struct List<'m> {
    data_type: DataType,
    bytes: &'m [u8],
    shared: &'m Shared,
}

impl<'m> List<'m> {
    pub(super) fn new(data_type: DataType, bytes: &'m [u8], shared: &'m Shared) -> Self {
        Self { data_type, bytes, shared }
    }

    /// Which of the three it is.
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// Its structured data type semantic, RFC 6313 section 4.4; `None` where there is not a byte.
    pub fn semantic(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    /// The enterprise number and id of the element that a basicList is of.
    pub fn element(&self) -> Option<(u32, u16)> {
        self.basic().map(|(head, _)| (head.pen, head.id))
    }

    /// The values of a basicList, up to the first that does not fit; none of other lists.
    pub fn values(&self) -> impl Iterator<Item = Value<'m>> + use<'m> {
        let basic = self.basic();
        let element = basic.as_ref().and_then(|(head, _)| Registry::standard().lookup(10, head.pen, head.id));
        let data_type = element.map(|e| e.data_type);
        let context = Context { export_time_us: self.shared.export_time_us, plain_microseconds: false };
        let items = basic.into_iter().flat_map(|(_, items)| items.map_while(|item| item));
        items.map(move |item| decode(data_type, item, context))
    }

    /// The parts of a subTemplateMultiList, or the one of a subTemplateList: the template id, and the records where
    /// the template is known. None of a basicList.
    pub fn parts(&self) -> impl Iterator<Item = (u16, Records<'m>)> + use<'m> {
        let rest = self.bytes.get(1..).unwrap_or(&[]);
        let (one, many) = match self.data_type {
            DataType::SubTemplateList => (rest.split_first_chunk(), &[][..]),
            DataType::SubTemplateMultiList => (None, rest),
            _ => (None, &[][..]),
        };
        let one = one.map(|(id, body)| (u16::from_be_bytes(*id), body));
        let shared = self.shared;
        one.into_iter().chain(Parts { rest: many }.map_while(|part| part)).map(move |(id, body)| {
            let rows = shared.templates.as_ref().and_then(|t| t.get(&id)).map(AsRef::<Described>::as_ref);
            (id, Records::new(rows, shared, body, 0))
        })
    }

    /// The JSON text that [`list_json`] makes of it.
    pub fn to_json(&self) -> Option<String> {
        let templates = |id: u16| Some(self.shared.templates.as_ref()?.get(&id)?.template.clone());
        list_json(self.data_type, self.bytes, self.shared.export_time_us, &templates)
    }

    fn basic(&self) -> Option<(BasicList, Items<'m>)> {
        if self.data_type == DataType::BasicList { BasicList::new(self.bytes.get(1..)?) } else { None }
    }
}
