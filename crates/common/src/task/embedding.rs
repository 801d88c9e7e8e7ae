//! The input of the embedding task, and what names a text's vector among others.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};

use super::InvalidInput;

mod result;
#[cfg(test)]
mod tests;
mod vectors;

pub use result::{Manifest, PAGE, Page, page_name};
pub use vectors::{Encoding, Vectors};

/// The most texts of one job.
pub const TEXTS_MAX: usize = 100_000;
/// The most texts of one call to a provider: OpenAI's own limit.
pub const BATCH_MAX: u32 = 2048;
/// The most numbers of one vector.
pub const DIMENSIONS_MAX: u32 = 65_536;
/// The longest id of a text.
const ID_BYTES_MAX: usize = 256;
/// The longest name of a collection.
const COLLECTION_BYTES_MAX: usize = 128;

/// What a caller cannot set by `extra_body`, because the task itself does.
const RESERVED: &[&str] = &["model", "input", "encoding_format", "dimensions"];

/// Members of a JSON object by name, in the text they came in. Of a name given twice, the last counts.
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// An input that was found good; borrows what it can from the JSON.
#[derive(Debug)]
pub struct Input<'a> {
    /// The texts, in the caller's order; at least one, none empty.
    pub items: Vec<Item<'a>>,
    /// How the result writes its vectors.
    pub encoding: Encoding,
    /// How many numbers a vector is to have; none leaves it to the model.
    pub dimensions: Option<u32>,
    /// Texts per call to the provider, where the caller wants another number than the provider's own.
    pub batch_size: Option<u32>,
    /// Where the vectors are kept beyond the job.
    pub collection: Option<Cow<'a, str>>,
    /// Further members of the request: `user`, and those of `extra_body`.
    pub extra: BTreeMap<String, Box<RawValue>>,
}

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// The caller's name for it.
    pub id: Option<Cow<'a, str>>,
    /// The text itself.
    pub text: Cow<'a, str>,
}

/// Names the vector of a text by what it is made of: model, parameters and text. Equal keys mean equal vectors.
pub type Key = [u8; 16];

/// Judges an input.
///
/// # Errors
///
/// The first mistake found, with its place.
pub fn validate(input: &RawValue) -> Result<(), InvalidInput> {
    Input::parse(input).map(drop)
}

/// Whether a text may be a collection's name: 1 to 128 of letters, digits, `.`, `_` and `-`, the first no dot. Nothing
/// else may pass: the name stands inside a Redis hash tag and in a URL.
pub fn is_collection_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=COLLECTION_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

/// The collection that an input names, whatever else it holds.
pub fn collection_of(input: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        collection: Option<String>,
    }
    serde_json::from_str::<Named>(input.get()).ok()?.collection
}

impl<'a> Input<'a> {
    /// Reads an input.
    ///
    /// # Errors
    ///
    /// The first mistake found, with its place.
    pub fn parse(input: &'a RawValue) -> Result<Self, InvalidInput> {
        let mut members: Members<'a> =
            serde_json::from_str(input.get()).map_err(|_| InvalidInput::new("input", "must be an object"))?;
        members.retain(|_, value| value.get() != "null");
        let (place, texts) = match (members.get("input"), members.get("texts")) {
            (Some(texts), None) => ("input.input", *texts),
            (None, Some(texts)) => ("input.texts", *texts),
            (Some(_), Some(_)) => return Err(InvalidInput::new("input.texts", "cannot stand beside `input`")),
            (None, None) => return Err(InvalidInput::new("input.input", "is required: a text or a list of texts")),
        };
        let items = items(place, texts)?;
        let collection = members.get("collection").map(|name| collection(name)).transpose()?;
        if collection.is_some() {
            check_ids(place, &items)?;
        }
        Ok(Self {
            items,
            encoding: members.get("encoding_format").map_or(Ok(Encoding::default()), |name| encoding(name))?,
            dimensions: number(&members, "dimensions", DIMENSIONS_MAX)?,
            batch_size: number(&members, "batch_size", BATCH_MAX)?,
            collection,
            extra: extra(&members)?,
        })
    }

    /// Names the vectors of this input's texts by `model`, in their order.
    pub fn keys(&self, model: Option<&str>) -> Vec<Key> {
        let basis = self.basis(model);
        let key = |item: &Item<'_>| {
            let mut hash = basis.clone();
            hash.update(item.text.as_bytes());
            first_half(hash)
        };
        self.items.iter().map(key).collect()
    }

    /// Names what all vectors of this input have in common: the model and the parameters. Only vectors with the same one
    /// can be compared.
    pub fn space(&self, model: Option<&str>) -> Key {
        first_half(self.basis(model))
    }

    fn basis(&self, model: Option<&str>) -> Sha256 {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            // With its length, so that no two lists of parts run into the same bytes.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        add(model.unwrap_or_default());
        add(&self.dimensions.unwrap_or(0).to_string());
        // Who asks changes no vector.
        for (name, value) in self.extra.iter().filter(|(name, _)| *name != "user") {
            add(name);
            add(value.get());
        }
        hash.update([0xff]);
        hash
    }
}

fn first_half(hash: Sha256) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

/// A string that is borrowed where it holds no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text<'a>(value: &'a RawValue) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Text<'a>>(value.get()).ok().map(|text| text.0)
}

fn items<'a>(place: &str, texts: &'a RawValue) -> Result<Vec<Item<'a>>, InvalidInput> {
    let wrong = |message: &str| InvalidInput::new(place, message);
    if texts.get().starts_with(['"', '{']) {
        return Ok(vec![item(place, texts)?]);
    }
    let list: Vec<&RawValue> =
        serde_json::from_str(texts.get()).map_err(|_| wrong("must be a text or a list of texts"))?;
    if list.is_empty() {
        return Err(wrong("must hold at least one text"));
    }
    if list.len() > TEXTS_MAX {
        return Err(wrong("holds more than 100000 texts"));
    }
    let has_ids = list[0].get().starts_with('{');
    let items = list.into_iter().enumerate().map(|(index, value)| {
        let place = format!("{place}[{index}]");
        if value.get().starts_with('{') != has_ids {
            return Err(InvalidInput::new(place, "must be of the same form as the first: a text, or {id, text}"));
        }
        item(&place, value)
    });
    items.collect()
}

fn item<'a>(place: &str, value: &'a RawValue) -> Result<Item<'a>, InvalidInput> {
    if !value.get().starts_with('{') {
        let text = text(value).ok_or_else(|| InvalidInput::new(place, "must be a text, or {id, text}"))?;
        return checked(place, None, text);
    }
    let members: Members<'a> =
        serde_json::from_str(value.get()).map_err(|_| InvalidInput::new(place, "must be an object"))?;
    let member = |name: &str| {
        let value = members.get(name).ok_or_else(|| InvalidInput::new(format!("{place}.{name}"), "is required"))?;
        text(value).ok_or_else(|| InvalidInput::new(format!("{place}.{name}"), "must be a string"))
    };
    let id = member("id")?;
    if !(1..=ID_BYTES_MAX).contains(&id.len()) || id.chars().any(char::is_control) {
        let message = "must be 1 to 256 bytes without control characters";
        return Err(InvalidInput::new(format!("{place}.id"), message));
    }
    checked(&format!("{place}.text"), Some(id), member("text")?)
}

fn checked<'a>(place: &str, id: Option<Cow<'a, str>>, text: Cow<'a, str>) -> Result<Item<'a>, InvalidInput> {
    if text.is_empty() {
        return Err(InvalidInput::new(place, "must not be empty"));
    }
    Ok(Item { id, text })
}

fn collection<'a>(name: &'a RawValue) -> Result<Cow<'a, str>, InvalidInput> {
    let message = "must be 1 to 128 letters, digits, '.', '_' and '-', the first no dot";
    let name = text(name).filter(|name| is_collection_name(name));
    name.ok_or_else(|| InvalidInput::new("input.collection", message))
}

/// A collection keeps its vectors by id.
fn check_ids(place: &str, items: &[Item<'_>]) -> Result<(), InvalidInput> {
    let mut seen = HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(id) = &item.id else {
            return Err(InvalidInput::new(place, "must hold {id, text}: a collection keeps its vectors by id"));
        };
        if !seen.insert(&**id) {
            return Err(InvalidInput::new(format!("{place}[{index}].id"), "is given twice"));
        }
    }
    Ok(())
}

fn encoding(name: &RawValue) -> Result<Encoding, InvalidInput> {
    match name.get() {
        "\"float\"" => Ok(Encoding::Float),
        "\"base64\"" => Ok(Encoding::Base64),
        _ => Err(InvalidInput::new("input.encoding_format", "must be float or base64")),
    }
}

fn number(members: &Members<'_>, name: &str, max: u32) -> Result<Option<u32>, InvalidInput> {
    let Some(value) = members.get(name) else { return Ok(None) };
    let number = serde_json::from_str::<u32>(value.get()).ok().filter(|number| (1..=max).contains(number));
    let wrong = || InvalidInput::new(format!("input.{name}"), format!("must be a whole number from 1 to {max}"));
    number.ok_or_else(wrong).map(Some)
}

fn extra(members: &Members<'_>) -> Result<BTreeMap<String, Box<RawValue>>, InvalidInput> {
    let mut extra = BTreeMap::new();
    if let Some(user) = members.get("user") {
        let user = text(user).ok_or_else(|| InvalidInput::new("input.user", "must be a string"))?;
        extra.insert("user".to_owned(), to_raw_value(&user).expect("a text always serializes"));
    }
    let Some(body) = members.get("extra_body") else { return Ok(extra) };
    let body: Members<'_> =
        serde_json::from_str(body.get()).map_err(|_| InvalidInput::new("input.extra_body", "must be an object"))?;
    for (name, value) in body {
        if RESERVED.contains(&&*name) {
            return Err(InvalidInput::new(format!("input.extra_body.{name}"), "cannot be set by `extra_body`"));
        }
        extra.insert(name.into_owned(), value.to_owned());
    }
    Ok(extra)
}
