//! `report.html`: its numbers are those of the metrics, equal runs are equal, damage is an error.

use std::fs;
use std::path::{Path, PathBuf};

use tinygpt_train::metrics::{self, Line};
use tinygpt_train::{ErrorKind, InitFrom, TrainConfig, html_report};

use crate::common::{World, message_of};

/// A config with samples, and an `out_dir` of this name.
fn config(world: &World, name: &str) -> TrainConfig {
    TrainConfig { sample_at_eval: true, ..world.config(name) }
}

/// The page of runs.
fn page(world: &World, names: &[&str]) -> String {
    let dirs: Vec<PathBuf> = names.iter().map(|name| world.out_dir(name)).collect();
    let path = world.out_dir("report.html");
    html_report::write(&dirs, &path).unwrap();
    fs::read_to_string(path).unwrap()
}

fn lines(dir: &Path) -> Vec<Line> {
    metrics::read(&dir.join(metrics::FILE_NAME)).unwrap()
}

/// The values of the object on each line of the metrics, as they stand there.
fn values(dir: &Path, event: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join(metrics::FILE_NAME)).unwrap();
    let start = format!("{{\"event\":\"{event}\"");
    let of = |line: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap();
        rest.split([',', '}']).next().unwrap().to_owned()
    };
    text.lines().filter(|line| line.starts_with(&start)).map(of).collect()
}

#[test]
fn a_page_has_every_number_of_the_metrics_and_loads_nothing() {
    let world = World::new();
    world.run(config(&world, "one")).unwrap();
    let html = page(&world, &["one"]);
    let dir = world.out_dir("one");
    for key in ["val_loss", "train_loss", "val_bits_per_byte", "perplexity"] {
        let values = values(&dir, "eval", key);
        assert_eq!(values.len(), 6);
        for value in values {
            assert!(html.contains(&format!("<td>{value}</td>")), "{key} {value}");
        }
    }
    for value in values(&dir, "eval", "val_loss") {
        assert!(html.contains(&format!("one: validation loss {value} after ")), "{value}");
    }
    let best = world_best(&dir);
    let row = "Lowest validation loss, nats per token</th><td>";
    assert!(html.contains(&format!("{row}{best}</td>")), "{best}");
    assert!(html.contains("Tokens</th><td>1,280</td>"), "20 steps of 2 · 2 · 16 tokens");
    assert!(html.contains("<th scope=\"row\">n_layer</th><td>2</td>"));
    assert!(html.contains("checkpoints") && html.contains(">20</th><td>best, last</td>"), "{html}");
    let n_samples = lines(&dir).iter().filter(|line| matches!(line, Line::Sample(_))).count();
    assert_eq!((n_samples, html.matches("<p class=\"sample\">").count()), (6, 6));
    for other in ["<script", "src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!html.contains(other), "{other}");
    }
    for axis in ["steps", "tokens", "seconds"] {
        assert_eq!(html.matches(&format!("<svg class=\"by-{axis}\"")).count(), 4, "{axis}");
    }
}

fn world_best(dir: &Path) -> String {
    let parse = |text: &String| text.parse::<f32>().unwrap();
    let all = values(dir, "eval", "val_loss");
    all.into_iter().min_by(|a, b| parse(a).total_cmp(&parse(b))).unwrap()
}

#[test]
fn equal_runs_are_equal_and_others_differ_from_their_first_different_number_on() {
    let world = World::new();
    world.run(config(&world, "one")).unwrap();
    world.run_until(config(&world, "stopped"), Some(9)).unwrap();
    let html = page(&world, &["one", "stopped"]);
    let expected = "Equal as far as both go: 9 steps, 3 evaluations and 3 samples are the same. \
                    Then this run ends.";
    assert!(html.contains(expected), "{html}");
    // Stopped and resumed is the same run.
    let resumed = TrainConfig { init_from: InitFrom::Resume, ..config(&world, "stopped") };
    world.run(resumed).unwrap();
    world.run(TrainConfig { seed: 7, ..config(&world, "other") }).unwrap();
    world.run(TrainConfig { sample_at_eval: false, ..config(&world, "without") }).unwrap();
    let html = page(&world, &["one", "stopped", "other", "without"]);
    let equal =
        "stopped: Equal: 20 steps, 6 evaluations and 6 samples are the same in every digit.";
    let text = html.replace("<span class=\"mark c", "").replace("\"></span>", " ");
    assert!(text.contains(&format!("1 {equal}")), "{html}");
    assert!(text.contains("3 without: Equal: 20 steps and 6 evaluations"), "{html}");
    let [first, other] =
        ["one", "other"].map(|name| values(&world.out_dir(name), "eval", "val_loss")[0].clone());
    let differs = format!(
        "2 other: Differs at the evaluation after 0 steps: validation loss {other} instead of {first}"
    );
    assert!(text.contains(&differs), "{differs}: {html}");
    let row = "<th scope=\"row\">seed</th><td>1337</td><td>1337</td><td>7</td><td>1337</td>";
    assert!(html.contains(row), "{html}");
    let table = html.split("Differences in configuration").nth(1).unwrap();
    let table = table.split("</table>").next().unwrap();
    assert!(!table.contains("out_dir") && !table.contains("n_layer"), "{table}");
    let html = page(&world, &["one", "one"]);
    assert!(html.contains("Configuration, data and machine are the same."));
    assert!(html.contains("one (1)") && html.contains("one (2)"), "{html}");
}

#[test]
fn tokens_and_seconds_follow_a_batch_size_that_was_changed() {
    let world = World::new();
    world.run_until(config(&world, "one"), Some(10)).unwrap();
    let resumed =
        TrainConfig { init_from: InitFrom::Resume, batch_size: 4, ..config(&world, "one") };
    world.run(resumed).unwrap();
    let html = page(&world, &["one"]);
    // 10 steps of 2 · 2 · 16 tokens, 10 of 2 · 4 · 16.
    assert!(html.contains("Tokens</th><td>1,920</td>"), "{html}");
    assert!(html.contains("after 10 steps: batch_size 2 → 4"), "{html}");
    let seconds: f64 = lines(&world.out_dir("one"))
        .iter()
        .map(|line| if let Line::Step(step) = line { step.step_ms / 1000.0 } else { 0.0 })
        .sum();
    assert!(html.contains(&format!("Seconds in steps</th><td>{seconds:.1}</td>")), "{seconds}");
}

#[test]
fn text_of_a_model_is_never_markup() {
    let world = World::new();
    world.run(config(&world, "one")).unwrap();
    let path = world.out_dir("one").join(metrics::FILE_NAME);
    let mut text = fs::read_to_string(&path).unwrap();
    let sample =
        "{\"event\":\"sample\",\"iter\":20,\"text\":\"<script>alert(1)</script>\\u0000&\"}\n";
    text.push_str(sample);
    // A run that is writing, or was killed.
    text.push_str("{\"event\":\"step\",\"it");
    fs::write(&path, text).unwrap();
    let html = page(&world, &["one"]);
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}&amp;"), "{html}");
    assert!(!html.contains("<script"), "{html}");
}

#[test]
fn a_damaged_run_is_an_error_and_nothing_is_written() {
    let world = World::new();
    world.run(config(&world, "good")).unwrap();
    let path = world.out_dir("report.html");
    let metrics = world.out_dir("good").join(metrics::FILE_NAME);
    let whole = fs::read_to_string(&metrics).unwrap();
    let state = world.out_dir("good").join("checkpoints/step-00000020/state.json");
    let whole_state = fs::read_to_string(&state).unwrap();
    let step = whole.lines().nth(4).unwrap();
    let failing = |kind: ErrorKind, says: &[&str]| {
        let error = html_report::write(&[world.out_dir("good")], &path).unwrap_err();
        let message = message_of(&error);
        assert_eq!(error.kind(), kind, "{message}");
        for part in says {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!path.exists(), "{message}");
    };
    for (text, says) in [
        (whole.replacen("\"loss\":", "\"lost\":", 1), "is not a record"),
        (whole.replacen('{', "\0\0{", 1), "is not a record"),
        (whole.replacen("\"event\":\"step\"", "\"event\":\"stop\"", 1), "is not a record"),
        (format!("{whole}{step}\n"), "is out of order"),
    ] {
        fs::write(&metrics, text).unwrap();
        failing(ErrorKind::Corrupt, &["metrics.jsonl line ", says, "resuming the run drops"]);
    }
    fs::write(&metrics, "").unwrap();
    failing(ErrorKind::Usage, &["good has no step and no evaluation"]);
    fs::remove_file(&metrics).unwrap();
    failing(ErrorKind::Usage, &["good holds no metrics.jsonl", "`out_dir` of a training run"]);
    fs::write(&metrics, &whole).unwrap();
    fs::write(&state, whole_state.replacen("\"step\": 20", "\"step\": 21", 1)).unwrap();
    failing(ErrorKind::Corrupt, &["step-00000020/state.json has SHA-256"]);
    fs::write(&state, whole_state).unwrap();
    // One good run and one that is missing.
    let dirs = [world.out_dir("good"), world.out_dir("none")];
    assert!(html_report::write(&dirs, &path).is_err() && !path.exists());
    // A file of somebody else, and a directory.
    fs::write(&path, "<!doctype html>\n<p>mine").unwrap();
    let error = html_report::write(&dirs[..1], &path).unwrap_err();
    assert!(message_of(&error).contains("report.html is not a report of training runs"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "<!doctype html>\n<p>mine");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(html_report::write(&dirs[..1], &path).is_err() && path.is_dir());
}
