//! The output of `sample`: texts up to a stop text, tables of probabilities, JSON objects, and nothing
//! else on standard output.

use serde_json::Value;

use crate::program::{run, trained};

const ARGS: &str = "--out-dir out --num-samples 3 --max-new-tokens 60 --start Line --threads 1";

fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(object: &Value) -> String {
    object["text"].as_str().unwrap().to_owned()
}

#[test]
fn objects_have_the_same_text_as_the_plain_output() {
    let dir = trained();
    let plain = run("sample", dir.path(), ARGS).ok().stdout;
    let texts: Vec<&str> = plain.split(&format!("{}\n", "-".repeat(40))).collect();
    let ran = run("sample", dir.path(), &format!("{ARGS} --json --show-probs 3")).ok();
    let objects = objects(&ran.stdout);
    assert_eq!((objects.len(), texts.len()), (3, 3));
    for (i, (object, plain)) in objects.iter().zip(texts).enumerate() {
        assert_eq!(format!("Line{}\n", text(object)), plain);
        assert_eq!(
            (object["index"].as_u64(), object["seed"].as_u64()),
            (Some(i as u64), Some(1337))
        );
        assert_eq!(
            (&object["prompt"], &object["finish_reason"]),
            (&"Line".into(), &"length".into())
        );
        let tokens = object["tokens"].as_array().unwrap();
        assert_eq!((object["n_tokens"].as_u64(), tokens.len()), (Some(60), 60));
        assert!(object["tokens_per_second"].as_f64().unwrap() > 0.0);
        for (token, id) in object["logprobs"].as_array().unwrap().iter().zip(tokens) {
            assert_eq!((&token["id"], token["top"].as_array().unwrap().len()), (id, 3));
            let logprobs: Vec<f64> = token["top"]
                .as_array()
                .unwrap()
                .iter()
                .map(|top| top["logprob"].as_f64().unwrap())
                .collect();
            assert!(logprobs.is_sorted_by(|a, b| a >= b) && logprobs[0] <= 0.0);
            assert!(token["logprob"].as_f64().unwrap() <= logprobs[0]);
        }
    }
    assert!(objects.iter().all(|object| object.get("logprobs").is_some()));
    let other = run("sample", dir.path(), &format!("{ARGS} --json --seed 7")).ok().stdout;
    assert!(other.lines().all(|line| !line.contains("logprobs")));
    assert!(!other.contains(&text(&objects[0])), "another seed, another text");
}

#[test]
fn a_sample_ends_before_a_stop_text() {
    let dir = trained();
    let whole = objects(&run("sample", dir.path(), &format!("{ARGS} --json")).ok().stdout);
    // Characters from the middle of the first sample: a token each. Flags are split at spaces.
    let characters: Vec<char> = text(&whole[0]).chars().collect();
    let solid = |three: &&[char]| three.iter().all(|c| c.is_alphanumeric());
    let stop: String = characters.windows(3).skip(10).find(solid).unwrap().iter().collect();
    let stops = format!("--stop={stop} --stop=not-there");
    let ended = objects(&run("sample", dir.path(), &format!("{ARGS} --json {stops}")).ok().stdout);
    let plain = run("sample", dir.path(), &format!("{ARGS} {stops}")).ok().stdout;
    for (ended, whole) in ended.iter().zip(&whole) {
        let whole = text(whole);
        let expected = whole.find(&stop).map_or(whole.as_str(), |at| &whole[..at]);
        assert_eq!(text(ended), expected);
        let reason = if expected.len() < whole.len() { "stop" } else { "length" };
        assert_eq!(ended["finish_reason"], reason);
        assert!(plain.contains(&format!("Line{expected}\n")), "{plain}");
    }
    assert_eq!(ended[0]["finish_reason"], "stop");
}

#[test]
fn a_table_has_a_line_for_each_token() {
    let dir = trained();
    let args = "--out-dir out --num-samples 1 --max-new-tokens 12 --start Line --show-probs 2";
    let ran = run("sample", dir.path(), args).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 13, "{}", ran.stdout);
    assert_eq!(lines[0], "\"Line\"");
    for line in &lines[1..] {
        let share: f64 = line.split('%').next().unwrap().trim().parse().unwrap();
        assert!((0.0..=100.0).contains(&share), "{line}");
        assert_eq!(line.matches(" % \"").count(), 2, "two besides the token itself: {line}");
    }
    assert!(!ran.stdout.contains('\u{1b}'), "colour is for terminals");
    assert!(ran.stderr.contains("at temperature 1 and") && ran.stderr.contains("temperature 0.8"));
}

#[test]
fn the_ways_to_choose_reach_the_model() {
    let dir = trained();
    let args = "--out-dir out --num-samples 1 --max-new-tokens 60 --start Line --top-k 0";
    let sample = |more: &str| run("sample", dir.path(), &format!("{args} {more}")).ok().stdout;
    let greedy = sample("--temperature 0");
    // Each of these leaves only the most likely token.
    for more in ["--top-p 0", "--min-p 1", "--top-k 1"] {
        assert_eq!(sample(&format!("--temperature 2 {more}")), greedy, "{more}");
    }
    assert_ne!(sample("--temperature 0 --repetition-penalty 2"), greedy);
    for more in ["--presence-penalty 2", "--frequency-penalty 2", "--no-repeat-ngram-size 2"] {
        assert_ne!(sample(&format!("--temperature 0 {more}")), greedy, "{more}");
    }
    assert_ne!(sample("--temperature 2"), greedy);
}
