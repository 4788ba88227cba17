//! `gpurun health`: whether everything is well between here and the servers, and what to do where it is not.
//!
//! What: findings, each with a result and advice: of this machine ([`here`]), of the way to each server ([`way`]), and what the server finds when it looks at itself.
//! Rules: what could not be looked at is told, not guessed; each look ends by the limits of a connection.

mod here;
mod way;

use comfy_table::Table;
use control_plane::{Check, CheckResult};
use protocol::config::Settings;
use serde_json::{Value, json};

use crate::arguments::Options;
use crate::exit::{Failure, NO_SERVER};
use crate::pool;
use crate::run::settings;
use crate::servers::Servers;
use crate::text::{self, UNKNOWN, print};

/// What gpurun ends with where something is bad.
const BAD: u8 = 1;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Good,
    Warning,
    Bad,
}

impl Grade {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Where: `here`, or a server.
    place: String,
    check: String,
    grade: Grade,
    /// What was found, one sentence.
    finding: String,
    /// What to do; empty: nothing.
    advice: String,
}

impl Finding {
    fn new(place: &str, check: &str, grade: Grade, finding: impl Into<String>) -> Self {
        Self {
            place: place.to_owned(),
            check: check.to_owned(),
            grade,
            finding: finding.into(),
            advice: String::new(),
        }
    }

    fn good(place: &str, check: &str, finding: impl Into<String>) -> Self {
        Self::new(place, check, Grade::Good, finding)
    }

    fn warning(place: &str, check: &str, finding: impl Into<String>) -> Self {
        Self::new(place, check, Grade::Warning, finding)
    }

    fn bad(place: &str, check: &str, finding: impl Into<String>) -> Self {
        Self::new(place, check, Grade::Bad, finding)
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// What a server found itself.
    fn of_server(place: &str, check: Check) -> Self {
        let grade = match check.result() {
            CheckResult::Good => Grade::Good,
            CheckResult::Bad => Grade::Bad,
            CheckResult::Warning | CheckResult::Unspecified => Grade::Warning,
        };
        Self::new(
            place,
            &format!("server's {}", text::clean(&check.name)),
            grade,
            text::clean(&check.finding),
        )
        .advise(text::clean(&check.advice))
    }
}

/// Looks at everything.
pub(super) fn health(options: &Options, as_json: bool) -> Result<u8, Failure> {
    let settings = settings(options)?;
    let mut findings = here::look();
    let servers = match Servers::of(&settings) {
        Ok(servers) => servers,
        // What is here may say why.
        Err(failure) if settings.servers.is_none() => {
            let failed = Finding::bad("this machine", "server", failure.to_string());
            findings.push(failed);
            show(&findings, as_json);
            return Ok(failure.status());
        }
        Err(failure) => return Err(failure),
    };
    let reachable = look_at_servers(&servers, &settings, &mut findings)?;
    show(&findings, as_json);
    let worst = findings.iter().map(|finding| finding.grade).max();
    Ok(match worst {
        _ if reachable == 0 => NO_SERVER,
        Some(Grade::Bad) => BAD,
        Some(Grade::Good | Grade::Warning) | None => 0,
    })
}

/// How many of them are there, if only to say no.
fn look_at_servers(
    servers: &Servers,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> Result<usize, Failure> {
    let answers = pool::ask_all(&servers.list, way::visit)?;
    for (server, error) in &answers.failed {
        let failed = Finding::bad(&server.name, "server", error.to_string());
        findings.push(failed);
    }
    for (server, visit) in &answers.found {
        findings.extend(way::judge(server, visit, settings));
        match &visit.health {
            Ok(reply) => {
                let checks = reply.checks.iter().cloned();
                findings.extend(checks.map(|check| Finding::of_server(&server.name, check)));
            }
            Err(error) => {
                let failed =
                    Finding::warning(&server.name, "server's own checks", error.to_string());
                findings.push(failed);
            }
        }
    }
    let failed = answers.failed.iter();
    let refusing = failed.filter(|(_, error)| error.status() != NO_SERVER);
    Ok(answers.found.len() + refusing.count())
}

fn show(findings: &[Finding], as_json: bool) {
    if as_json {
        let values = findings.iter().map(value);
        print(format_args!("{:#}", Value::Array(values.collect())));
    } else {
        print(table(findings));
    }
}

fn table(findings: &[Finding]) -> Table {
    let mut table = text::table(&["where", "check", "result", "found", "what to do"]);
    for finding in findings {
        let advice = match finding.advice.as_str() {
            "" => UNKNOWN,
            advice => advice,
        };
        table.add_row([
            &finding.place,
            &finding.check,
            finding.grade.name(),
            &finding.finding,
            advice,
        ]);
    }
    table
}

fn value(finding: &Finding) -> Value {
    json!({
        "where": finding.place,
        "check": finding.check,
        "result": finding.grade.name(),
        "finding": finding.finding,
        "advice": finding.advice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_found_is_shown_without_control_characters() {
        let check = Check {
            name: "disk".to_owned(),
            result: CheckResult::Bad.into(),
            finding: "full\u{7}".to_owned(),
            advice: "delete".to_owned(),
        };
        let finding = Finding::of_server("s", check);
        assert_eq!(finding.grade, Grade::Bad);
        assert_eq!(finding.finding, "full\u{FFFD}");
        let shown = table(std::slice::from_ref(&finding)).to_string();
        assert!(shown.contains("bad") && shown.contains("delete"), "{shown}");
        assert_eq!(value(&finding)["result"], "bad");
        assert!(Grade::Bad > Grade::Warning && Grade::Warning > Grade::Good);
    }
}
