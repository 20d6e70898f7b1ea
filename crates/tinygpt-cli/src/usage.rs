//! The error for wrong input of the user: a flag, key, file or device.
//!
//! It has a message and a hint. [`crate::exit`] turns it into exit code 2.

use std::fmt;

/// The most faults that are listed.
const MAX_FAULTS: usize = 10;

/// The user asked for something impossible; nothing was done.
#[derive(Debug)]
pub struct UsageError {
    message: String,
    hint: Option<String>,
}

impl UsageError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// All `faults` in one error; `None` if there are no faults.
    pub fn from_faults(faults: Vec<String>) -> Option<Self> {
        match faults.as_slice() {
            [] => None,
            [only] => Some(Self::new(only)),
            many => {
                let shown = many.iter().take(MAX_FAULTS);
                let mut lines: Vec<String> = shown.map(|fault| format!("\n  {fault}")).collect();
                if many.len() > MAX_FAULTS {
                    lines.push(format!("\n  and {} more", many.len() - MAX_FAULTS));
                }
                Some(Self::new(format!("{} errors:{}", many.len(), lines.concat())))
            }
        }
    }

    /// The error for a file `name` that is not text.
    pub fn not_utf8(name: impl fmt::Display, error: &std::str::Utf8Error) -> Self {
        Self::new(format!("{name} is not UTF-8 text (byte {})", error.valid_up_to()))
            .hint("convert the file, for example with `iconv -t UTF-8`")
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Adds a hint, which is printed on a separate line.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for UsageError {}
