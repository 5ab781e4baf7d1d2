//! Files with the frames of a station and the truth about its sessions, as
//! `apps/csms/tests/frames/README.md` describes them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The largest file that is read, in bytes.
const SCRIPT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One station's frames, and the truth.
#[derive(Clone, Debug)]
pub(crate) struct FrameScript {
    /// Name of the file, without folder and ending.
    pub(crate) name: String,
    /// Frames and breaks, in order.
    pub(crate) steps: Vec<ScriptStep>,
    /// Transactions that there are in the end.
    pub(crate) sessions: Vec<ScriptSession>,
}

/// Step of a script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ScriptStep {
    /// A call of the station.
    Call {
        id: String,
        action: String,
        payload: Value,
        /// Members of the answer; `None` if the reply is lost.
        answer: Option<Value>,
    },
    /// The socket ends, and the station connects again.
    Reconnect,
}

/// Transaction that there is in the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScriptSession {
    /// Name of the id that the server gave; `None` if it gave none.
    pub(crate) id: Option<String>,
    pub(crate) connector_id: u32,
    pub(crate) energy_wh: Option<i64>,
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
    #[serde(default)]
    pub(crate) reported_id: Option<i64>,
}

/// Error of a file with frames.
#[derive(Debug, thiserror::Error)]
pub enum FrameScriptError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file, or the folder.
        path: PathBuf,
        /// Cause.
        error: std::io::Error,
    },
    /// The file is too large.
    #[error("{} has {bytes} bytes; at most {SCRIPT_BYTES_MAX} are read", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A line is not as the format has it.
    #[error("line {line} of {}: {fault}; see apps/csms/tests/frames/README.md", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Fault of the line.
        fault: String,
    },
    /// A folder has no such file.
    #[error("{} has no file that ends with .jsonl; name another folder", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
struct ScriptTruth {
    sessions: Vec<ScriptSession>,
}

/// Reads a file, or all files of a folder that end with `.jsonl`, by name.
pub(crate) fn read_scripts(path: &Path) -> Result<Vec<FrameScript>, FrameScriptError> {
    let unreadable = |error| FrameScriptError::Unreadable { path: path.to_owned(), error };
    if !path.is_dir() {
        return read_script(path).map(|script| vec![script]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|ending| ending == "jsonl") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(FrameScriptError::Empty { path: path.to_owned() });
    }
    files.iter().map(|file| read_script(file)).collect()
}

fn read_script(path: &Path) -> Result<FrameScript, FrameScriptError> {
    let unreadable = |error| FrameScriptError::Unreadable { path: path.to_owned(), error };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > SCRIPT_BYTES_MAX {
        return Err(FrameScriptError::TooLarge { path: path.to_owned(), bytes });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut script =
        FrameScript { name: name.unwrap_or_default(), steps: Vec::new(), sessions: Vec::new() };
    for (line, text) in (1..).zip(text.lines()) {
        script.add(text).map_err(|fault| FrameScriptError::Line {
            path: path.to_owned(),
            line,
            fault,
        })?;
    }
    Ok(script)
}

impl FrameScript {
    fn add(&mut self, text: &str) -> Result<(), String> {
        let line: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let told = |value: &Value| serde_json::from_value(value.clone());
        if let Some(truth) = line.get("truth") {
            let truth: ScriptTruth = told(truth).map_err(|error| error.to_string())?;
            self.sessions = truth.sessions;
        } else if line.get("mark").is_some() {
            self.steps.push(ScriptStep::Reconnect);
        } else if let Some(frame) = line.get("frame") {
            self.add_frame(frame)?;
        } else if line.get("story").is_none() {
            return Err("neither story, frame, mark nor truth".to_owned());
        }
        Ok(())
    }

    fn add_frame(&mut self, frame: &Value) -> Result<(), String> {
        let id = frame[1].as_str().ok_or("a frame without a message id")?;
        match frame[0].as_u64() {
            Some(2) => self.steps.push(ScriptStep::Call {
                id: id.to_owned(),
                action: frame[2].as_str().ok_or("a call without an action")?.to_owned(),
                payload: frame[3].clone(),
                answer: None,
            }),
            Some(3) => match self.steps.last_mut() {
                Some(ScriptStep::Call { id: asked, answer, .. }) if asked == id => {
                    *answer = Some(frame[2].clone());
                }
                _ => return Err(format!("an answer to {id}, which was not asked before it")),
            },
            _ => return Err("a frame that is neither a call nor an answer".to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_real_stations_are_read_and_each_file_has_a_truth() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
        for script in read_scripts(&folder).unwrap() {
            assert!(!script.steps.is_empty() && !script.sessions.is_empty(), "{script:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_of_the_format_is_told() {
        let mut script =
            FrameScript { name: String::new(), steps: Vec::new(), sessions: Vec::new() };
        for (line, said) in [
            ("{}", "neither"),
            (r#"{"from":"server","frame":[3,"1",{}]}"#, "not asked"),
            (r#"{"from":"station","frame":[2,"1"]}"#, "action"),
            (r#"{"truth":{}}"#, "sessions"),
        ] {
            let fault = script.add(line).unwrap_err();
            assert!(fault.contains(said), "{line}: {fault}");
        }
    }
}
