//! stub
pub struct FieldSpec{pub pen:u32,pub id:u16,pub len:u16}
pub struct Template{pub version:u8,pub fields:Box<[FieldSpec]>}
