//! Kafka's jars and the Java machine that runs them.
//!
//! The jars are fetched once, by Maven from where Maven is set up to fetch from, into the user's cache directory. They
//! are gathered in a directory aside and renamed, under a lock: what is found there is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ClusterError;

/// The release that is measured.
pub const KAFKA_VERSION: &str = "4.3.0";

/// Kafka logs through slf4j and brings no binding along; this one fits the log4j of that release.
const LOG4J_BINDING_VERSION: &str = "2.25.4";

/// Pinned, so that the same jars come whatever Maven's own default is.
const COPY_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Kafka 4 brokers need it.
const JAVA_MIN: u32 = 17;

/// What the plugin needs.
const MAVEN_MIN: (u32, u32, u32) = (3, 6, 3);

/// Why Kafka cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No Java.
    #[error(
        "Apache Kafka needs Java {JAVA_MIN} or newer, and no `java` was found: install one (Debian: openjdk-17-jre-headless), \
         or name it with JAVA_HOME"
    )]
    JavaMissing,
    /// Java is too old.
    #[error("Apache Kafka needs Java {JAVA_MIN} or newer, and {} is version {found}: install a newer one, or name it with JAVA_HOME", java.display())]
    JavaTooOld {
        /// Which.
        java: PathBuf,
        /// Its version, as it says itself.
        found: String,
    },
    /// No Maven.
    #[error(
        "Apache Kafka's jars are fetched by Maven, and no `mvn` was found: install it (Debian: maven), or name a directory \
         that holds the jars in MINISR_KAFKA_JARS"
    )]
    MavenMissing,
    /// Maven is too old.
    #[error(
        "Apache Kafka's jars are fetched by Maven 3.6.3 or newer, and `mvn` is version {found}: install a newer one, or name a directory that holds the jars in MINISR_KAFKA_JARS"
    )]
    MavenTooOld {
        /// Its version, as it says itself.
        found: String,
    },
    /// Maven failed.
    #[error("Maven could not fetch Apache Kafka {KAFKA_VERSION}; its last lines:\n{tail}")]
    Fetch {
        /// The end of what it printed.
        tail: String,
    },
    /// The directory that was named holds no Kafka.
    #[error("MINISR_KAFKA_JARS names {}, which holds no kafka_2.13-….jar", dir.display())]
    NoJars {
        /// The directory.
        dir: PathBuf,
    },
    /// Kafka refused to format a log directory.
    #[error("broker {id} could not be given an empty disk; the last lines:\n{tail}\n(all of them are in {})", log.display())]
    Format {
        /// The broker.
        id: i32,
        /// The end of what the tool printed.
        tail: String,
        /// Everything it printed.
        log: PathBuf,
    },
}

/// A Java machine and the jars.
#[derive(Debug, Clone)]
pub struct KafkaInstallation {
    /// `java`.
    pub java: PathBuf,
    /// The directory of the jars.
    pub jars: PathBuf,
}

impl KafkaInstallation {
    /// Finds both; fetches the jars if they are not there yet. Blocks.
    ///
    /// # Errors
    /// Something is missing and cannot be had; the error says what to install.
    pub fn find() -> Result<Self, ClusterError> {
        Ok(Self { java: find_java()?, jars: find_jars()? })
    }

    /// A command that runs one of Kafka's tools, to be given its arguments. `logging` is a log4j2 configuration.
    #[must_use]
    pub fn tool(&self, logging: &Path, class: &str) -> Command {
        let mut command = Command::new(&self.java);
        command.args(self.class_path(logging)).arg(class).stdin(Stdio::null());
        command
    }

    /// The arguments that every call of `java` needs.
    pub(super) fn class_path(&self, logging: &Path) -> Vec<OsString> {
        let mut configuration = OsString::from("-Dlog4j2.configurationFile=");
        configuration.push(logging);
        vec![configuration, "-cp".into(), self.jars.join("*").into()]
    }
}

fn find_java() -> Result<PathBuf, KafkaError> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
    let java = home.filter(|java| java.is_file()).unwrap_or_else(|| PathBuf::from("java"));
    let output = Command::new(&java).arg("-version").output().map_err(|_| KafkaError::JavaMissing)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = quoted(&text).unwrap_or("unknown").to_owned();
    match java_major(&found) {
        Some(major) if major >= JAVA_MIN => Ok(java),
        _ => Err(KafkaError::JavaTooOld { java, found }),
    }
}

/// The text between the first two quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// `17.0.15` is 17, `1.8.0_392` is 8.
fn java_major(version: &str) -> Option<u32> {
    let mut numbers = version.split(['.', '-', '+', '_']).map(str::parse::<u32>);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

fn find_jars() -> Result<PathBuf, ClusterError> {
    if let Some(dir) = std::env::var_os("MINISR_KAFKA_JARS").map(PathBuf::from) {
        let entries = fs::read_dir(&dir).map_err(ClusterError::file("read", &dir))?;
        let is_kafka = |name: OsString| name.to_string_lossy().starts_with("kafka_2.13-");
        if entries.flatten().any(|entry| is_kafka(entry.file_name())) {
            return std::path::absolute(&dir).map_err(ClusterError::file("locate", &dir));
        }
        return Err(KafkaError::NoJars { dir }.into());
    }
    let cache = cache_directory();
    fs::create_dir_all(&cache).map_err(ClusterError::file("create", &cache))?;
    let jars = cache.join(format!("kafka-{KAFKA_VERSION}"));
    let lock_path = cache.join(format!("kafka-{KAFKA_VERSION}.lock"));
    let lock = File::create(&lock_path).map_err(ClusterError::file("create", &lock_path))?;
    // Somebody else may be fetching them now.
    lock.lock().map_err(ClusterError::file("lock", &lock_path))?;
    if !jars.is_dir() {
        fetch(&cache, &jars)?;
    }
    Ok(jars)
}

fn fetch(cache: &Path, jars: &Path) -> Result<(), ClusterError> {
    check_maven()?;
    eprintln!("Apache Kafka {KAFKA_VERSION} is fetched by mvn, once, into {} (about 45 MB)", jars.display());
    let aside = tempfile::Builder::new().prefix("kafka-").tempdir_in(cache);
    let aside = aside.map_err(ClusterError::file("create a directory in", cache))?;
    let pom = aside.path().join("pom.xml");
    fs::write(&pom, project()).map_err(ClusterError::file("write", &pom))?;
    let fetched = aside.path().join("jars");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(&pom).arg(COPY_GOAL).arg("-DincludeScope=runtime");
    let mut directory = OsString::from("-DoutputDirectory=");
    directory.push(&fetched);
    let output = maven.arg(directory).stdin(Stdio::null()).output().map_err(|_| KafkaError::MavenMissing)?;
    if !output.status.success() || !fetched.join(format!("kafka_2.13-{KAFKA_VERSION}.jar")).is_file() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines[lines.len().saturating_sub(4)..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>();
        return Err(KafkaError::Fetch { tail: tail.join("\n") }.into());
    }
    fs::rename(&fetched, jars).map_err(ClusterError::file("make", jars))
}

fn check_maven() -> Result<(), KafkaError> {
    let output = Command::new("mvn").arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|_| KafkaError::MavenMissing)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match maven_version(&text) {
        Some(version) if version >= MAVEN_MIN => Ok(()),
        Some((major, minor, patch)) => Err(KafkaError::MavenTooOld { found: format!("{major}.{minor}.{patch}") }),
        None => Err(KafkaError::MavenTooOld { found: "unknown".to_owned() }),
    }
}

/// From `Apache Maven 3.8.7 (…)`, which may be coloured.
fn maven_version(text: &str) -> Option<(u32, u32, u32)> {
    let rest = text.split_once("Apache Maven ")?.1;
    let version = rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

fn project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
         <groupId>minisr</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{}\n{}\n</dependencies>\n</project>\n",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_BINDING_VERSION),
    )
}

fn cache_directory() -> PathBuf {
    let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("minisr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read_in_the_old_and_the_new_scheme() {
        let text = "openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment\n";
        assert_eq!(quoted(text).and_then(java_major), Some(17));
        assert_eq!(java_major("1.8.0_392"), Some(8));
        assert_eq!(java_major("21-ea"), Some(21));
        assert_eq!(java_major("unknown"), None);
    }

    #[test]
    fn maven_versions_are_read_coloured_or_not() {
        assert_eq!(maven_version("\u{1b}[1mApache Maven 3.8.7\u{1b}[m\nMaven home: x"), Some((3, 8, 7)));
        assert_eq!(maven_version("Apache Maven 4.0.0-rc-2 (abc)"), Some((4, 0, 0)));
        assert!(maven_version("Apache Maven 3.3.9").unwrap() < MAVEN_MIN);
        assert_eq!(maven_version("mvn: command not found"), None);
    }
}
