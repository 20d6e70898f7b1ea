//! Checks of the options of `sample`, each by itself and together.

use tinygpt_model::{DeviceSpec, SamplingParams};

use super::{MAX_ALTERNATIVES, SampleOptions, Start};
use crate::options::layer::{Faults, Layered};

/// Checks each option by itself.
pub(super) fn check_ranges(
    layered: &Layered<SampleOptions>,
    faults: &mut Faults<'_, SampleOptions>,
) {
    let options = &layered.options;
    faults.at_least_one("num_samples", options.num_samples);
    faults.at_least_one("max_new_tokens", options.max_new_tokens.map(|n| n as u64));
    faults.threads(options.threads);
    faults.at_least_one("novelty", options.novelty);
    faults.at_least_one("stride", options.stride.map(|n| n as u64));
    for range in &SamplingParams::RANGES {
        let value = layered.value(range.key).as_f64();
        faults.unless(
            value.is_none_or(|value| range.contains(value)),
            range.key,
            &range.expected(),
        );
    }
    let has_empty = options.stop.iter().flatten().any(String::is_empty);
    faults.unless(!has_empty, "stop", "a text that is not empty");
    faults.unless(
        options.show_probs.is_none_or(|n| (1..=MAX_ALTERNATIVES).contains(&n)),
        "show_probs",
        "1 to 20",
    );
}

/// Checks combinations of options.
pub(super) fn check_together(
    options: &SampleOptions,
    (device, start, exports): (DeviceSpec, &Start, bool),
    faults: &mut Faults<'_, SampleOptions>,
) {
    let is_on = |flag: Option<bool>| flag.unwrap_or_default();
    let (interactive, quantizes) = (is_on(options.interactive), options.quantize.is_some());
    let serves = options.serve.is_some();
    if interactive && is_on(options.json) {
        faults.conflict("interactive", "--json", "");
    }
    if interactive && (serves || exports) {
        faults.conflict("interactive", "--serve or --export", "");
    }
    check_chat(options, exports, faults);
    check_judging(options, (interactive, exports), faults);
    if interactive && *start == Start::Stdin {
        faults.conflict("start", "--interactive", "both read standard input");
    }
    if quantizes && device != DeviceSpec::Cpu {
        faults.needs("quantize", "--device cpu");
    }
    if quantizes && exports {
        let reason = "`--type q8_0` rounds the weights of a GGUF file";
        faults.conflict("quantize", "--export", reason);
    }
    if serves && exports {
        faults.conflict(
            "serve",
            "--export",
            "one serves until it is stopped, the other writes a file",
        );
    }
}

/// Checks what is combined with a chat.
fn check_chat(options: &SampleOptions, exports: bool, faults: &mut Faults<'_, SampleOptions>) {
    let is_on = |flag: Option<bool>| flag.unwrap_or_default();
    if !is_on(options.chat) {
        return;
    }
    for (flag, is_given) in [
        ("--interactive", is_on(options.interactive)),
        ("--json", is_on(options.json)),
        ("--serve", options.serve.is_some()),
        ("--export", exports),
        ("--start", options.start.is_some()),
    ] {
        if is_given {
            faults.conflict("chat", flag, "");
        }
    }
}

/// Checks that nothing else is asked of a model that is evaluated.
fn check_judging(
    options: &SampleOptions,
    (interactive, exports): (bool, bool),
    faults: &mut Faults<'_, SampleOptions>,
) {
    if options.stride.is_some() && options.score.is_none() {
        faults.needs("stride", "--score FILE");
    }
    let others = [
        ("--novelty", options.novelty.is_some()),
        ("--score", options.score.is_some()),
        ("--grade", options.grade.is_some()),
        ("--interactive", interactive),
        ("--chat", options.chat.unwrap_or_default()),
        ("--serve", options.serve.is_some()),
        ("--export", exports),
        ("--show-probs", options.show_probs.is_some()),
        ("--stop", options.stop.is_some()),
    ];
    let given = || others.iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| *flag);
    for (key, place) in [("novelty", 0), ("score", 1), ("grade", 2)] {
        let flag = others[place].0;
        if let Some(other) = given().find(|other| *other != flag).filter(|_| others[place].1) {
            faults.conflict(key, other, "");
        }
    }
}
