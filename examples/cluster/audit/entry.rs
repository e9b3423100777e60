//! One entry of an audit log.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::chain::{Key, Mac};
use crate::auth::Principal;
use crate::control_group::Chain;
use crate::hex;
use crate::origin::Origin;

/// How much of a resource is kept: longer than any path of which all names are good.
const RESOURCE_CHARS_MAX: usize = 4_096;
/// More than the longest line has.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 20;
/// As many names as a request may have that is answered, and as much of each.
const NAMES_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 512;

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where the request comes from.
    pub(crate) client: Origin,
    /// Who makes it.
    pub(crate) principal: Principal,
    /// The operation, as the OpenAPI document calls it.
    pub(crate) action: &'static str,
    /// What it is done to: the path, as it was sent.
    pub(crate) resource: String,
    /// What it is done to beside that, where the body names it.
    pub(crate) names: Vec<String>,
    /// What the request is called, in logs of other nodes too.
    pub(crate) request_id: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status that the client is told; nothing where it went away before.
    pub(crate) status: Option<u16>,
    /// The code of a refusal.
    pub(crate) code: Option<String>,
    /// The node that has done it.
    pub(crate) routed_to: String,
}

/// The first line of a file.
#[derive(Serialize)]
struct HeaderLine<'a> {
    audit: u8,
    node: &'a str,
    #[serde(serialize_with = "as_hex")]
    chain: Chain,
    first: u64,
    #[serde(serialize_with = "as_hex")]
    previous: Mac,
}

/// What verifying wants to know of it.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Header {
    /// The format of the file.
    pub(super) audit: u8,
    pub(super) node: String,
    pub(super) chain: String,
    /// The number of its first entry.
    pub(super) first: u64,
    /// What the chain was at the end of the file before.
    pub(super) previous: String,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    sequence: u64,
    time: String,
    node: &'a str,
    client: String,
    principal: PrincipalLine<'a>,
    action: &'a str,
    resource: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    names: Vec<&'a str>,
    outcome: &'a str,
    status: Option<u16>,
    request_id: &'a str,
    routed_to: &'a str,
}

#[derive(Serialize)]
struct PrincipalLine<'a> {
    id: Option<&'a str>,
    name: &'a str,
    role: Option<&'a str>,
}

impl<'a> From<&'a Principal> for PrincipalLine<'a> {
    fn from(principal: &'a Principal) -> Self {
        match principal {
            Principal::Anybody => Self { id: None, name: "anybody", role: None },
            Principal::Unknown { id } => Self { id: id.as_deref(), name: "unknown", role: None },
            Principal::Owner { id, name, role } => {
                Self { id: Some(id), name, role: Some(role.as_str()) }
            }
        }
    }
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// Adds the first line of a file whose first entry has this number.
pub(super) fn append_header(key: &Key, node: &str, first: u64, previous: Mac, lines: &mut Vec<u8>) {
    let header = HeaderLine { audit: 1, node, chain: key.chain(), first, previous };
    // It is chained to nothing: what it follows, it says itself.
    key.append(&super::chain::ORIGIN, &text_of(&header), lines);
}

/// Adds the line of an entry; what the chain is after it.
pub(super) fn append_entry(
    key: &Key,
    node: &str,
    (sequence, previous): (u64, &Mac),
    (entry, outcome): (&Entry, &Outcome),
    lines: &mut Vec<u8>,
) -> Mac {
    let Entry { client, principal, action, resource, names, request_id } = entry;
    let line = EntryLine {
        sequence,
        time: format!("{:.6}", Timestamp::now()),
        node,
        client: client.to_string(),
        principal: principal.into(),
        action,
        resource: cut(resource, RESOURCE_CHARS_MAX),
        names: names.iter().take(NAMES_MAX).map(|name| cut(name, NAME_CHARS_MAX)).collect(),
        outcome: match (outcome.status, &outcome.code) {
            (None, _) => "abandoned",
            (Some(200..=299), _) => "done",
            (Some(_), Some(code)) => code,
            (Some(_), None) => "refused",
        },
        status: outcome.status,
        request_id,
        routed_to: &outcome.routed_to,
    };
    key.append(previous, &text_of(&line), lines)
}

/// No more of `text` than this.
fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// As JSON of which nothing moves a cursor, hides or turns around what stands beside it.
fn text_of(line: &impl Serialize) -> String {
    let json = serde_json::to_string(line).expect("strings and numbers are always written as JSON");
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return json;
    }
    // Such characters stand in strings alone, where every one of them can be written by its number.
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        if is_invisible(char) {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                write!(text, "\\u{unit:04x}").expect("a string takes whatever is written");
            }
        } else {
            text.push(char);
        }
    }
    text
}

/// Controls, separators of lines, what sets the direction of text, and what has no width.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_group::Role;

    fn entry(name: &str) -> Entry {
        let name = name.to_owned();
        Entry {
            client: Origin("[::ffff:10.0.0.1]:80".parse().unwrap()),
            principal: Principal::Owner { id: "abc".to_owned(), name, role: Role::Writer },
            action: "putValue",
            resource: "/v1/cache/a%2Fb".to_owned(),
            names: Vec::new(),
            request_id: "r-1".to_owned(),
        }
    }

    fn line(entry: &Entry, status: Option<u16>, code: Option<&str>) -> String {
        let (key, mut lines) = (Key::generate().unwrap(), Vec::new());
        let code = code.map(str::to_owned);
        let outcome = Outcome { status, code, routed_to: "n2".to_owned() };
        append_entry(&key, "n1", (7, &[0; 32]), (entry, &outcome), &mut lines);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn an_entry_says_who_did_what_to_what_and_what_came_of_it() {
        let value: serde_json::Value =
            serde_json::from_str(&line(&entry("ci"), Some(204), None)).unwrap();
        let time: jiff::Timestamp = value["time"].as_str().unwrap().parse().unwrap();
        assert!(time <= jiff::Timestamp::now());
        let expected = serde_json::json!({
            "sequence": 7, "time": value["time"], "node": "n1", "client": "10.0.0.1:80",
            "principal": {"id": "abc", "name": "ci", "role": "writer"},
            "action": "putValue", "resource": "/v1/cache/a%2Fb", "outcome": "done", "status": 204,
            "request_id": "r-1", "routed_to": "n2", "mac": value["mac"],
        });
        assert_eq!(value, expected);
        for (status, code, outcome) in [
            (Some(409), Some("lock_held"), "lock_held"),
            (Some(405), None, "refused"),
            (None, None, "abandoned"),
        ] {
            let value: serde_json::Value =
                serde_json::from_str(&line(&entry("ci"), status, code)).unwrap();
            assert_eq!(value["outcome"], outcome);
        }
    }

    #[test]
    fn nothing_in_a_line_moves_a_cursor_or_turns_text_around() {
        let name = "a\u{202e}b\u{7f}c\u{85}d\u{2028}e\u{200b}f\u{e0041}g ä漢\u{1f600}\"\\\n";
        let line = line(&entry(name), Some(200), None);
        let text = line.strip_suffix('\n').unwrap();
        assert!(!text.chars().any(is_invisible), "{text}");
        assert!(text.contains("\\u202e") && text.contains("ä漢\u{1f600}"), "{text}");
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["principal"]["name"], name, "it can be read back");
    }

    #[test]
    fn no_line_is_too_long() {
        let resource = "\u{e0041}".repeat(100_000);
        let names = vec![resource.clone(); 100];
        let entry = Entry { resource, names, ..entry("ci") };
        let line = line(&entry, Some(200), None);
        assert!((line.len() as u64) < LINE_BYTES_MAX, "{} bytes", line.len());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["names"].as_array().unwrap().len(), NAMES_MAX);
    }
}
