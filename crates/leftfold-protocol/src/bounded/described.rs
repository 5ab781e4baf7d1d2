//! Descriptions of messages, as `google/protobuf/descriptor.proto` has them.

/// Kind of a field that has a text.
pub(super) const TEXT: i32 = 9;
/// Kind of a field that has a message.
pub(super) const MESSAGE: i32 = 11;
/// Kind of a field that has bytes.
pub(super) const BYTES: i32 = 12;
/// Label of a field that is a list or a map.
pub(super) const REPEATED: i32 = 3;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescribedFiles {
    #[prost(message, repeated, tag = "1")]
    pub(super) files: Vec<DescribedFile>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescribedFile {
    #[prost(string, tag = "2")]
    pub(super) package: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) messages: Vec<DescribedMessage>,
    #[prost(message, repeated, tag = "6")]
    pub(super) services: Vec<DescribedService>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescribedMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) fields: Vec<DescribedField>,
    #[prost(message, repeated, tag = "3")]
    pub(super) nested: Vec<DescribedMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescribedField {
    #[prost(int32, tag = "3")]
    pub(super) number: i32,
    #[prost(int32, tag = "4")]
    pub(super) label: i32,
    #[prost(int32, tag = "5")]
    pub(super) kind: i32,
    /// Name of its message, with a dot in front.
    #[prost(string, tag = "6")]
    pub(super) type_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescribedService {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) methods: Vec<DescribedMethod>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DescribedMethod {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) input: String,
}
