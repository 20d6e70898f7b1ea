//! Conversations as documents: the text of one is the JSON of its messages, which later stages read again.

use std::path::Path;

use serde_json::Value;

use super::PIECE_BYTES;
use crate::chat::{EXPECTED, Message, messages_of};
use crate::error::DataError;

/// The document of a record, or what is wrong with the record.
pub(super) fn document_of(record: &Value) -> Result<String, String> {
    let document = to_document(&messages_of(record)?);
    if document.len() > PIECE_BYTES {
        return Err(format!("a conversation longer than {} MiB", PIECE_BYTES >> 20));
    }
    Ok(document)
}

/// The document of these messages.
pub(super) fn to_document(messages: &[Message]) -> String {
    serde_json::to_string(messages).unwrap_or_default()
}

/// The messages of such a document.
pub(crate) fn of_document(document: &str) -> Result<Vec<Message>, DataError> {
    serde_json::from_str(document).map_err(|error| {
        DataError::usage(format!("a conversation is not JSON ({error})"), "report this")
    })
}

/// The error of a file in a format that holds no conversations.
pub(super) fn no_records(path: &Path) -> DataError {
    DataError::corrupt(
        path,
        "conversations are read from .jsonl, .json and .parquet files",
        format!("write a JSON object on each line; {EXPECTED}"),
    )
}
