//! Rules of the repository, as a test. Each rule is a function from a file to its offences, and has to fail on a
//! doctored text before its silence counts for anything.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file.
const LINES_MAX: usize = 800;

/// Files that may be longer, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Ignored tests, each with the reason.
const IGNORED_TESTS: &[(&str, &str)] = &[(
    "crates/cluster/tests/lifecycle.rs",
    "started by another test as a child process that is going to be killed; alone it would wait for that for ever",
)];

/// Where a Kafka error code may be a bare number.
const ERROR_CODE_FILES: &[&str] = &["crates/wire/src/error_code.rs", "broker/src/api/error_code.rs"];

/// The crates that decide: no clock, no runtime, no randomness, no unordered map.
const DECIDING_CRATES: &[&str] = &["crates/logic/src/", "crates/replica/src/"];

/// What these crates must not mention.
const BANNED_IN_DECIDING_CRATES: &[&str] =
    &["HashMap", "HashSet", "std::time", "Instant", "SystemTime", "tokio", "rand", "rand_chacha", "std::thread"];

/// Names under which nothing of ours is found (`.git` is a file in a work tree).
const SKIPPED: &[&str] = &["target", ".git", "results", "chaos-evidence"];

struct File {
    /// Relative to the root, with slashes.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines without comments, with their numbers from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line)))
    }
}

fn without_comment(line: &str) -> &str {
    // A "//" right behind a colon is part of an address in a string.
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the broker stands in the root").to_owned()
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if SKIPPED.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            files.push(File { path, text });
        }
    }
}

fn is_word(text: &str, at: usize, len: usize) -> bool {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    !text[..at].chars().next_back().is_some_and(letter) && !text[at + len..].chars().next().is_some_and(letter)
}

fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| is_word(line, at, word.len()))
}

// ---- the rules ----

fn files_are_short(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let excepted = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    if file.is_rust() && lines > LINES_MAX && !excepted {
        return vec![format!("{}: {lines} lines, more than {LINES_MAX}", file.path)];
    }
    Vec::new()
}

fn crates_are_described(file: &File) -> Vec<String> {
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    let first = file.text.lines().next().unwrap_or_default();
    let described = first.starts_with("//! ") && !first.contains("Placeholder");
    if is_root && !described { vec![format!("{}: no module documentation at the top", file.path)] } else { Vec::new() }
}

fn nothing_is_left_undone(file: &File) -> Vec<String> {
    if !file.is_rust() || file.path == "broker/tests/tidy.rs" {
        return Vec::new();
    }
    let may_ignore = IGNORED_TESTS.iter().any(|(path, _)| *path == file.path);
    let undone = |line: &&str| {
        ["todo!", "unimplemented!"].iter().any(|mark| line.contains(mark)) || (line.contains("#[ignore") && !may_ignore)
    };
    let offences = file.code().filter(|(_, line)| undone(line));
    offences.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())).collect()
}

fn deciding_crates_only_decide(file: &File) -> Vec<String> {
    if !file.is_rust() || !DECIDING_CRATES.iter().any(|prefix| file.path.starts_with(prefix)) {
        return Vec::new();
    }
    let mut offences = Vec::new();
    for (number, line) in file.code() {
        for word in BANNED_IN_DECIDING_CRATES {
            if mentions(line, word) {
                offences.push(format!("{}:{number}: {word} does not belong into a crate that decides", file.path));
            }
        }
    }
    offences
}

fn no_machine_paths(file: &File) -> Vec<String> {
    if file.path == "broker/tests/tidy.rs" {
        return Vec::new();
    }
    let personal = ["/root/", "/home/", "/Users/"];
    let mut offences = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for path in personal {
            // A path starts there: "docs/home/" does not hold "/home/".
            let starts = |(position, _): (usize, &str)| {
                !line[..position].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
            };
            if line.match_indices(path).any(starts) {
                offences.push(format!("{}:{}: {path} is a path of some machine", file.path, at + 1));
            }
        }
    }
    offences
}

fn error_codes_have_names(file: &File) -> Vec<String> {
    if !file.is_rust() || ERROR_CODE_FILES.contains(&file.path.as_str()) || file.path == "broker/tests/tidy.rs" {
        return Vec::new();
    }
    let mut offences = Vec::new();
    for (number, line) in file.code() {
        for mark in ["error_code", "ErrorCode("] {
            for (at, _) in line.match_indices(mark) {
                let value = line[at + mark.len()..].trim_start_matches([' ', '(', '=', '!', ':', ',', '-']);
                let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
                // 0 is the absence of an error.
                if digits.parse::<i32>().is_ok_and(|code| code != 0) {
                    offences.push(format!("{}:{number}: error code {digits} has a name", file.path));
                }
            }
        }
    }
    offences
}

fn manifests_take_the_lints(file: &File) -> Vec<String> {
    let is_member = file.path.ends_with("/Cargo.toml");
    let mut lines = file.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let taken = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    if is_member && !taken { vec![format!("{}: [lints] workspace = true is missing", file.path)] } else { Vec::new() }
}

/// Only `serde`, and that only on request, may stand among the dependencies of the logic crate.
fn logic_depends_on_nothing(file: &File) -> Vec<String> {
    if file.path != "crates/logic/Cargo.toml" {
        return Vec::new();
    }
    let mut section = "";
    let mut offences = Vec::new();
    for line in file.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" || section == "[build-dependencies]" {
            let allowed = line.starts_with("serde") && line.contains("optional = true");
            if !allowed {
                offences.push(format!("{}: logic depends on nothing, not on {line}", file.path));
            }
        }
    }
    offences
}

/// Every Rust file that the list of invariants names exists, and every row that names an invariant names a file.
fn invariants_point_at_files(file: &File, exists: impl Fn(&str) -> bool) -> Vec<String> {
    if file.path != "docs/INVARIANTS.md" {
        return Vec::new();
    }
    let mut offences = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let files =
            || quoted.iter().filter_map(|text| text.split(['#', ':']).next()).filter(|text| text.ends_with(".rs"));
        for missing in files().filter(|path| !exists(path)) {
            offences.push(format!("{}:{}: {missing} does not exist", file.path, at + 1));
        }
        let is_name = |text: &&str| {
            text.chars().next().is_some_and(char::is_uppercase) && text.chars().all(char::is_alphanumeric)
        };
        let names_one = line.starts_with('|') && quoted.first().is_some_and(is_name);
        if names_one && files().next().is_none() {
            offences.push(format!("{}:{}: the invariant names no file", file.path, at + 1));
        }
    }
    offences
}

fn offences(file: &File) -> Vec<String> {
    let rules = [
        files_are_short,
        crates_are_described,
        nothing_is_left_undone,
        deciding_crates_only_decide,
        no_machine_paths,
        error_codes_have_names,
        manifests_take_the_lints,
        logic_depends_on_nothing,
    ];
    let mut all: Vec<String> = rules.iter().flat_map(|rule| rule(file)).collect();
    all.extend(invariants_point_at_files(file, |path| root().join(path).is_file()));
    all
}

// ---- the tests ----

#[test]
fn tidy_repository_follows_its_rules() {
    let mut files = Vec::new();
    collect(&root(), &root(), &mut files);
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(files.iter().filter(|file| file.is_rust()).count() > 50, "the sources were found");
    let all: Vec<String> = files.iter().flat_map(offences).collect();
    assert!(all.is_empty(), "{} offences:\n{}", all.len(), all.join("\n"));
}

#[test]
fn tidy_exceptions_are_still_needed() {
    for (path, reason) in LONG_FILES {
        let lines = fs::read_to_string(root().join(path)).unwrap_or_default().lines().count();
        assert!(lines > LINES_MAX, "{path} needs no exception any more ({reason})");
    }
    for (path, reason) in IGNORED_TESTS {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(text.contains("#[ignore"), "{path} needs no exception any more ({reason})");
    }
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn tidy_long_file_is_found() {
    assert_eq!(files_are_short(&file("a.rs", &"x\n".repeat(LINES_MAX + 1))).len(), 1);
    assert!(files_are_short(&file("a.rs", &"x\n".repeat(LINES_MAX))).is_empty());
    assert!(files_are_short(&file("a.md", &"x\n".repeat(LINES_MAX + 1))).is_empty());
}

#[test]
fn tidy_undescribed_crate_is_found() {
    assert_eq!(crates_are_described(&file("a/src/lib.rs", "mod x;\n//! Late.")).len(), 1);
    assert_eq!(crates_are_described(&file("a/src/main.rs", "//! Placeholder while …")).len(), 1);
    assert!(crates_are_described(&file("a/src/lib.rs", "//! What it is for.")).is_empty());
}

#[test]
fn tidy_unfinished_code_is_found() {
    for text in ["fn f() { todo!() }", "    unimplemented!(\"later\")", "#[ignore]", "#[ignore = \"slow\"]"] {
        assert_eq!(nothing_is_left_undone(&file("a.rs", text)).len(), 1, "{text}");
    }
    assert!(nothing_is_left_undone(&file("a.rs", "// no todo!() here\nfn f() {}")).is_empty());
    assert!(nothing_is_left_undone(&file(IGNORED_TESTS[0].0, "#[ignore]")).is_empty());
}

#[test]
fn tidy_clock_runtime_or_unordered_map_in_a_deciding_crate_is_found() {
    for text in
        ["use std::collections::HashMap;", "let now = std::time::Instant::now();", "tokio::spawn(x)", "use rand::Rng;"]
    {
        assert!(!deciding_crates_only_decide(&file("crates/logic/src/a.rs", text)).is_empty(), "{text}");
        assert!(!deciding_crates_only_decide(&file("crates/replica/src/b/c.rs", text)).is_empty(), "{text}");
        assert!(deciding_crates_only_decide(&file("broker/src/a.rs", text)).is_empty());
    }
    assert!(deciding_crates_only_decide(&file("crates/logic/src/a.rs", "let operand = 1; // no tokio")).is_empty());
}

#[test]
fn tidy_machine_path_is_found() {
    for text in ["(/root/.cargo)", "cp /home/someone/x .", "see /Users/me"] {
        assert_eq!(no_machine_paths(&file("README.md", text)).len(), 1, "{text}");
    }
    assert!(no_machine_paths(&file("a.rs", "crates/home/x, a.b/home/c, {root}/home/d")).is_empty());
}

#[test]
fn tidy_bare_error_code_is_found() {
    for text in [
        "response.with_error_code(6)",
        "if partition.error_code == 56 {",
        "error_code: 3,",
        "assert_eq!(partition.error_code, 74);",
        "const X: ErrorCode = ErrorCode(115);",
        "error_code != -1",
    ] {
        assert_eq!(error_codes_have_names(&file("broker/src/a.rs", text)).len(), 1, "{text}");
        assert!(error_codes_have_names(&file(ERROR_CODE_FILES[0], text)).is_empty());
    }
    for text in ["error_code == 0", "error_code: i16", "error_code == error_code::NOT_LEADER", "// error_code 6"] {
        assert!(error_codes_have_names(&file("broker/src/a.rs", text)).is_empty(), "{text}");
    }
}

#[test]
fn tidy_manifest_without_lints_is_found() {
    let sound = "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n";
    assert!(manifests_take_the_lints(&file("x/Cargo.toml", sound)).is_empty());
    assert!(manifests_take_the_lints(&file("Cargo.toml", "[workspace]")).is_empty());
    assert_eq!(manifests_take_the_lints(&file("x/Cargo.toml", "[package]\nworkspace = true\n")).len(), 1);
    assert_eq!(manifests_take_the_lints(&file("x/Cargo.toml", "[lints]\nrust.x = \"deny\"\n")).len(), 1);
}

#[test]
fn tidy_dependency_of_logic_is_found() {
    let manifest = |line: &str| {
        file("crates/logic/Cargo.toml", &format!("[dependencies]\n{line}\n[dev-dependencies]\nx = \"1\"\n"))
    };
    assert_eq!(logic_depends_on_nothing(&manifest("bytes.workspace = true")).len(), 1);
    assert_eq!(logic_depends_on_nothing(&manifest("serde = { workspace = true }")).len(), 1);
    assert!(logic_depends_on_nothing(&manifest("serde = { workspace = true, optional = true }")).is_empty());
}

#[test]
fn tidy_invariant_without_file_is_found() {
    let check = |text: &str| invariants_point_at_files(&file("docs/INVARIANTS.md", text), |path| path == "crates/a.rs");
    assert!(check("| `StrongIsr` | 15 | `crates/a.rs` |").is_empty());
    assert!(check("| `StrongIsr` | 15 | `crates/a.rs:12` |").is_empty());
    assert_eq!(check("| `StrongIsr` | 15 | `crates/gone.rs` |").len(), 1);
    assert_eq!(check("| `StrongIsr` | 15 | asserted somewhere |").len(), 1);
    assert!(check("| Name | Number | Where |\n|---|---|---|\nSome `Prose` about it.").is_empty());
}
