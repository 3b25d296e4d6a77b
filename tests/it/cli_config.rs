//! The configuration as a user of the binary meets it: whole outputs, exit codes, and what is never printed.

use std::process::{Command, Output, Stdio};

/// The binary, with nothing in its environment but what a test gives it.
fn clipstream(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clipstream"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

fn run(mut command: Command) -> Output {
    command.output().expect("the binary starts")
}

#[test]
fn keys_are_set_before_and_behind_the_verb() {
    let arguments = ["--set", "store.timeout_ms=5", "config", "show", "--json", "--set", "clip.sessions=2"];
    let shown = run(clipstream(&arguments));
    let shown = text(&shown.stdout);
    assert!(shown.contains("timeout_ms") && shown.matches("--set").count() == 2, "{shown}");
}

#[test]
fn a_broken_configuration_is_reported_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = "\
[media]
fetch_timeout_ms = \"30s\"
fetch_timeout = 10
[store]
kind = \"qdrand\"
[clip]
image_batch_max = 100000
";
    std::fs::write(folder.path().join("broken.toml"), file).unwrap();
    let mut command = clipstream(&["config", "validate", "--config", "broken.toml", "--set", "clip.sessions=0"]);
    command
        .current_dir(folder.path())
        .env("CLIPSTREAM__MEDIA__REDIRECTS_MAX", "many")
        .env("CLIPSTREAM__KAFKA__SASL_PASSWORD", "hunter2")
        .env("CLIPSTREAM__STORE__APIKEY", "hunter2");
    let output = run(command);
    let expected = "\
error: the configuration has 8 problems
  1. media.fetch_timeout_ms
     found     \"30s\"
     from      broken.toml, line 2
     expected  a whole number from 1 to 3600000 (milliseconds)
     hint      write it without a unit: 30000
  2. media.redirects_max
     found     \"many\"
     from      environment variable CLIPSTREAM__MEDIA__REDIRECTS_MAX
     expected  a whole number from 0 to 50
  3. media.fetch_timeout
     from      broken.toml, line 3
     expected  a key of [media]
     hint      did you mean media.fetch_timeout_ms?
  4. clip.sessions
     found     \"0\"
     from      --set
     expected  a whole number from 1 to 64
  5. clip.image_batch_max
     found     100000
     from      broken.toml, line 7
     expected  a whole number from 1 to 4096
  6. store.kind
     found     \"qdrand\"
     from      broken.toml, line 5
     expected  one of qdrant, embedded
     hint      did you mean qdrant?
  7. store.apikey
     from      environment variable CLIPSTREAM__STORE__APIKEY
     expected  a key of [store]
     hint      did you mean store.api_key?
  8. kafka.sasl_password
     found     \"REDACTED\"
     from      environment variable CLIPSTREAM__KAFKA__SASL_PASSWORD
     expected  not to be set while kafka.security_protocol is plaintext
     hint      kafka.security_protocol: sasl_ssl or sasl_plaintext
hint: config/clipstream.toml documents every key; `clipstream config show` prints what is in effect
";
    assert_eq!(text(&output.stderr), expected);
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn syntax_errors_have_a_line_and_show_no_content() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.toml"), "[kafka]\nsasl_password = \"hunter2\n").unwrap();
    let mut command = clipstream(&["config", "show"]);
    command.current_dir(folder.path()).env("CLIPSTREAM_CONFIG", "w.toml");
    let output = run(command);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("from      w.toml, line 2\n"), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn show_names_every_origin_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("w.toml"), "[store]\nkind = \"qdrant\"\n").unwrap();
    let arguments = ["config", "show", "--config", "w.toml", "--set", "store.timeout_ms=5", "--log-level", "debug"];
    let show = |more: &[&str]| {
        let mut command = clipstream(&[&arguments[..], more].concat());
        command.current_dir(folder.path()).env("CLIPSTREAM__STORE__API_KEY", "hunter2");
        run(command)
    };
    let output = show(&[]);
    let stdout = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(!stdout.contains("hunter2"), "{stdout}");
    let line =
        |start: &str| stdout.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {stdout}"));
    let parts = |start: &str| line(start).split_once("  #").map(|(v, origin)| (v.trim().to_owned(), origin.to_owned()));
    let expect = |value: &str, origin: &str| Some((value.to_owned(), format!(" {origin}")));
    assert_eq!(parts("kind"), expect("kind = \"qdrant\"", "w.toml, line 2"));
    assert_eq!(parts("timeout_ms"), expect("timeout_ms = 5", "--set"));
    assert_eq!(parts("log_filter"), expect("log_filter = \"debug\"", "--log-level"));
    assert_eq!(parts("sessions "), expect("sessions = 1", "default"));
    let variable = "environment variable CLIPSTREAM__STORE__API_KEY";
    assert_eq!(parts("api_key"), expect("api_key = \"REDACTED\"", variable));

    let output = show(&["--json"]);
    let lines = text(&output.stdout).lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let kind = lines.into_iter().find(|l| l["key"] == "store.kind").unwrap();
    assert_eq!((&kind["value"], &kind["origin"]), (&"\"qdrant\"".into(), &"w.toml, line 2".into()));
}

#[test]
fn problems_come_as_json_lines_too() {
    let output = run(clipstream(&["config", "validate", "--json", "--set", "media.redirects_max=-1"]));
    let line: serde_json::Value = serde_json::from_str(text(&output.stdout).trim()).unwrap();
    assert_eq!(line["key"], "media.redirects_max");
    assert_eq!(line["found"], "\"-1\"");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn check_shows_every_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut command =
        clipstream(&["check", "--json", "--set", "telemetry.listen=", "--set", "clip.models=v/c=nowhere"]);
    command.current_dir(folder.path());
    let output = run(command);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = |name: &str| lines.iter().find(|l| l["check"] == name).unwrap_or_else(|| panic!("{name}: {lines:?}"));
    assert_eq!(result("configuration")["ok"], true);
    assert!(result("model v/c")["reason"].as_str().unwrap().contains("nowhere"), "{lines:?}");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).ends_with("failed\n"), "{}", text(&output.stderr));
}

#[test]
fn readme_lists_the_verbs_and_their_actions() {
    let readme = include_str!("../../README.md");
    let table: Vec<(&str, &str)> = readme
        .lines()
        .skip_while(|line| *line != "## Verbs")
        .skip_while(|line| !line.starts_with("| `"))
        .map_while(|line| line.strip_prefix("| `")?.split_once("` | "))
        .collect();
    let documented: Vec<&str> = table.iter().map(|(verb, _)| *verb).collect();
    let mut verbs = listed_by_help(&[]);
    verbs.sort_by_key(|verb| documented.iter().position(|d| d == verb));
    assert_eq!(verbs, documented);
    assert!(verbs.len() > 10, "{verbs:?}");
    let actions = table.iter().map(|(verb, does)| {
        let actions = listed_by_help(&[verb]);
        for action in &actions {
            assert!(does.contains(&format!("`{action}`")), "README.md does not name {verb} {action}");
        }
        actions.len()
    });
    assert!(actions.sum::<usize>() > 10);
}

/// The verbs that `--help` lists, or the actions of one verb.
fn listed_by_help(verb: &[&str]) -> Vec<String> {
    let output = run(clipstream(&[verb, &["--help"]].concat()));
    assert_eq!(output.status.code(), Some(0));
    text(&output.stdout)
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // Long descriptions go on further to the right.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn an_unknown_verb_is_refused() {
    let output = run(clipstream(&["serch"]));
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(2)));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut command = clipstream(&["config", "show"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before the program can have written, like `| true`.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)));
}
