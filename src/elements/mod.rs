//! stub
#[allow(missing_docs)]
#[derive(Clone,Copy,Debug,PartialEq,Eq)]
pub enum DataType{Unsigned8,Unsigned16,Unsigned32,Unsigned64,Unsigned256,Signed8,Signed16,Signed32,Signed64,Float32,Float64,Boolean,MacAddress,OctetArray,String,DateTimeSeconds,DateTimeMilliseconds,DateTimeMicroseconds,DateTimeNanoseconds,Ipv4Address,Ipv6Address,BasicList,SubTemplateList,SubTemplateMultiList}
pub struct Element{pub data_type:DataType}
pub struct Registry;
impl Registry{ pub fn lookup(&self,_v:u8,_p:u32,_i:u16)->Option<&Element>{None} pub fn key(&self,_v:u8,_p:u32,i:u16)->String{i.to_string()} }
