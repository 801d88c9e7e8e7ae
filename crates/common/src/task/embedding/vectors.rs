//! Vectors as they travel: packed, 32-bit little-endian floats, the form in which base64 carries them too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How a result writes a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As a list of numbers.
    #[default]
    Float,
    /// As base64 of the packed numbers, the way OpenAI writes it.
    Base64,
}

/// Bytes of one number.
const WIDTH: usize = 4;

/// Vectors of the same length, one behind the other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vectors {
    dimensions: usize,
    bytes: Vec<u8>,
}

/// Without the numbers: a vector tells much of its text.
impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vectors").field("dimensions", &self.dimensions).field("len", &self.len()).finish()
    }
}

impl Vectors {
    /// How many numbers each has; 0 while there is none.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        if self.dimensions == 0 { 0 } else { self.bytes.len() / (self.dimensions * WIDTH) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The packed numbers of each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.bytes.chunks_exact((self.dimensions * WIDTH).max(1))
    }

    /// Adds one from its numbers.
    ///
    /// # Errors
    /// As [`Vectors::push_packed`].
    pub fn push(&mut self, numbers: impl IntoIterator<Item = f32>) -> Result<(), &'static str> {
        let start = self.bytes.len();
        for number in numbers {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.check(start)
    }

    /// Adds one from its packed numbers.
    ///
    /// # Errors
    /// It is empty, of another length than the others, or holds what is no finite number. The others stay.
    pub fn push_packed(&mut self, packed: &[u8]) -> Result<(), &'static str> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packed);
        self.check(start)
    }

    /// Adds one from base64 of its packed numbers.
    ///
    /// # Errors
    /// It is no base64, or as [`Vectors::push_packed`].
    pub fn push_base64(&mut self, text: &[u8]) -> Result<(), &'static str> {
        let start = self.bytes.len();
        if STANDARD.decode_vec(text, &mut self.bytes).is_err() {
            self.bytes.truncate(start);
            return Err("a vector is not base64");
        }
        self.check(start)
    }

    fn check(&mut self, start: usize) -> Result<(), &'static str> {
        let new = &self.bytes[start..];
        let finite = |number: &[u8]| f32::from_le_bytes([number[0], number[1], number[2], number[3]]).is_finite();
        let problem = if new.is_empty() || !new.len().is_multiple_of(WIDTH) {
            Some("a vector is empty or cut short")
        } else if self.dimensions != 0 && new.len() != self.dimensions * WIDTH {
            Some("its vectors differ in length")
        } else if !new.chunks_exact(WIDTH).all(finite) {
            Some("a vector holds what is no finite number")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.bytes.truncate(start);
            return Err(problem);
        }
        self.dimensions = new.len() / WIDTH;
        Ok(())
    }
}

impl Encoding {
    /// Writes a packed vector as JSON behind `out`.
    pub fn write(self, packed: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Base64 => {
                out.push(b'"');
                let start = out.len();
                out.resize(start + packed.len().div_ceil(3) * 4, 0);
                let written = STANDARD.encode_slice(packed, &mut out[start..]).expect("the room was made for it");
                out.truncate(start + written);
                out.push(b'"');
            }
            Self::Float => {
                out.push(b'[');
                for (place, number) in packed.chunks_exact(WIDTH).enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    let number = f32::from_le_bytes([number[0], number[1], number[2], number[3]]);
                    serde_json::to_writer(&mut *out, &number).expect("a number always serializes into memory");
                }
                out.push(b']');
            }
        }
    }
}
