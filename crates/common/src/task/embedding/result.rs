//! `ai.embedding_result.v1`, written piece by piece: in the worker where it is small, else by the API from what the worker
//! left beside the record, so that nobody ever holds all of a large one.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Encoding, Item, Key};

/// Texts on one page.
pub const PAGE: usize = 256;

/// All of a result but its vectors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The model that the provider's answers name, else the one asked for.
    pub model: Option<String>,
    /// Numbers per vector.
    pub dimensions: usize,
    /// How the vectors are written.
    pub encoding: Encoding,
    /// Texts in all.
    pub count: usize,
    /// What the provider counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<Box<RawValue>>,
    /// From the first call to the last, of the attempt that completed.
    pub duration_ms: u64,
    /// What became of the collection, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub collection: Option<Box<RawValue>>,
    /// Its name: there stand the vectors that the job did not make itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shelf: Option<String>,
}

/// The name under which a page is kept.
pub fn page_name(number: usize) -> String {
    format!("page{number}")
}

impl Manifest {
    /// The name under which the manifest is kept.
    pub const NAME: &str = "manifest";

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.count.div_ceil(PAGE)
    }

    /// Writes what stands before the first vector.
    pub fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"schema_version":"ai.embedding_result.v1","model":"#);
        json(out, &self.model);
        out.extend_from_slice(b",\"dimensions\":");
        json(out, &self.dimensions);
        out.extend_from_slice(b",\"data\":[");
    }

    /// Writes the vector of the text at `index`; `null` where there is none any more.
    pub fn vector(&self, index: usize, id: Option<&str>, packed: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        out.extend_from_slice(b"\"object\":\"embedding\",\"index\":");
        json(out, &index);
        if let Some(id) = id {
            out.extend_from_slice(b",\"id\":");
            json(out, &id);
        }
        out.extend_from_slice(b",\"embedding\":");
        match packed {
            Some(packed) => self.encoding.write(packed, out),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }

    /// Writes what stands behind the last vector.
    pub fn end(&self, attempts: Option<&RawValue>, out: &mut Vec<u8>) {
        out.push(b']');
        let mut member = |name: &str, value: Option<&RawValue>| {
            if let Some(value) = value {
                out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
            }
        };
        member("usage", self.usage.as_deref());
        member("collection", self.collection.as_deref());
        member("attempts", attempts);
        out.extend_from_slice(format!(",\"duration_ms\":{}}}", self.duration_ms).as_bytes());
    }
}

/// Which vectors a stretch of a result holds: the keys, and the callers' ids where there are any.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Name the vectors, in order.
    pub keys: Vec<Key>,
    /// As many, or none.
    pub ids: Vec<String>,
}

impl Page {
    /// The page of these texts.
    pub fn encode(keys: &[Key], items: &[Item<'_>]) -> Vec<u8> {
        let mut out = keys.concat();
        let ids: Vec<&str> = items.iter().filter_map(|item| item.id.as_deref()).collect();
        if !ids.is_empty() {
            json(&mut out, &ids);
        }
        out
    }

    /// Reads a page of `count` texts; `None`: it is none.
    pub fn decode(bytes: &[u8], count: usize) -> Option<Self> {
        let (keys, ids) = bytes.split_at_checked(count * size_of::<Key>())?;
        let (keys, _) = keys.as_chunks();
        let ids: Vec<String> = if ids.is_empty() { Vec::new() } else { serde_json::from_slice(ids).ok()? };
        (ids.is_empty() || ids.len() == count).then(|| Self { keys: keys.to_vec(), ids })
    }
}

fn json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("texts and numbers always serialize into memory");
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let item = |id: Option<&'static str>| Item { id: id.map(Cow::from), text: Cow::from("text") };
        let keys = [[1; 16], [2; 16]];
        for (items, ids) in
            [([item(None), item(None)], vec![]), ([item(Some("a\"")), item(Some("b"))], vec!["a\"", "b"])]
        {
            let page = Page::decode(&Page::encode(&keys, &items), 2).unwrap();
            assert_eq!(page, Page { keys: keys.to_vec(), ids: ids.into_iter().map(str::to_owned).collect() });
        }
        assert_eq!(Page::decode(&[1; 31], 2), None);
    }
}
