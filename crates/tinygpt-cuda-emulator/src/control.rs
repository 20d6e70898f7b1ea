//! Settings of the emulated device for the thread of one test.
#![expect(unsafe_code, reason = "functions of the libraries that this crate builds")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::OnceLock;

use libloading::Library;

/// The library that [`crate::libraries`] built; loading it again gives the copy that a test uses.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let Some(folder) = crate::libraries() else {
            panic!("there is no emulator on this machine")
        };
        // SAFETY: our own library; loading it runs only constructors of C++ variables.
        let library = unsafe { Library::new(folder.join("libcuda.so.1")) };
        library.unwrap_or_else(|error| panic!("libcuda.so.1 of the emulator: {error}"))
    })
}

/// Calls a function of the library that takes a text and returns 0 if it can read it.
fn call_with(name: &str, text: &str) {
    let Ok(c_text) = CString::new(text) else { panic!("{text:?} contains a zero byte") };
    // SAFETY: both functions that this is used for have this signature.
    let code = unsafe {
        match library().get::<unsafe extern "C" fn(*const c_char) -> c_int>(name.as_bytes()) {
            Ok(function) => function(c_text.as_ptr()),
            Err(error) => panic!("{name}: {error}"),
        }
    };
    assert_eq!(code, 0, "{name} cannot read {text:?}");
}

/// Sets the order in which launches of this thread run the threads and blocks of a kernel: `up`, `down`
/// or `shuffled:<seed>`; an empty text restores the order of the environment.
///
/// # Panics
/// If the text is another one, or there is no emulator.
pub fn set_order(order: &str) {
    call_with("tinygpt_emulator_order", order);
}

/// Makes calls of this thread fail: `function:call[:code][:lost]`, separated by commas, for example
/// `cuMemAlloc_v2:3` for the third allocation from now on. An empty text removes all faults.
///
/// # Panics
/// If the text is another one, or there is no emulator.
pub fn fail(faults: &str) {
    call_with("tinygpt_emulator_fail", faults);
}

/// What the emulator last complained about on this thread; empty if nothing.
///
/// # Panics
/// If there is no emulator.
#[must_use]
pub fn last_message() -> String {
    // SAFETY: the function takes nothing and returns a text that ends with zero, valid until the next
    // message on this thread.
    unsafe {
        match library().get::<unsafe extern "C" fn() -> *const c_char>(b"tinygpt_emulator_message")
        {
            Ok(function) => CStr::from_ptr(function()).to_string_lossy().into_owned(),
            Err(error) => panic!("tinygpt_emulator_message: {error}"),
        }
    }
}
