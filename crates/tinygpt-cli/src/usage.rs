//! The error of someone who asked for what cannot be: a wrong flag, key, file or device.
//!
//! It knows a message and a way on; that it means exit code 2 is said in [`crate::exit`].

use std::fmt;

/// As many faults are listed.
const MAX_FAULTS: usize = 10;

/// The user asked for something that cannot be; nothing was done.
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

    /// All `faults` in one error, `None` if there is none.
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
                Some(Self::new(format!("{} faults:{}", many.len(), lines.concat())))
            }
        }
    }

    /// The file `name` should hold text, and does not.
    pub fn not_utf8(name: impl fmt::Display, error: &std::str::Utf8Error) -> Self {
        Self::new(format!("{name} is not UTF-8 text (byte {})", error.valid_up_to()))
            .hint("convert the file, for example with `iconv -t UTF-8`")
    }

    /// The way on, where one is known.
    pub fn way_on(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Adds the way on, printed on a line of its own.
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
