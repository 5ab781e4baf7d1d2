//! A tab of headless Chromium that a test clicks through, driven over the pipe for debuggers.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::deadline::{PATIENCE, until};
use super::folder::Folder;

/// The tab; the browser ends with it.
pub(crate) struct Tab {
    process: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    _profile: Folder,
}

impl Tab {
    /// Starts a browser with an empty tab.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let chromium = env::var_os("LEFTFOLD_CHROMIUM")
            .expect("LEFTFOLD_CHROMIUM is not set; run cargo xtask test");
        let profile = Folder::new();
        let mut process = Command::new("sh")
            // The browser reads requests from descriptor 3 and answers on 4.
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2"])
            .arg(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-pipe", "--window-size=1100,900"])
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(profile.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let requests = process.stdin.take().unwrap();
        let mut pipe = BufReader::new(process.stdout.take().unwrap());
        let (found, answers) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|bytes| bytes > 0) {
                message.pop();
                let answer: Value = serde_json::from_slice(&message).unwrap_or_default();
                message.clear();
                if answer.get("id").is_some() && found.send(answer).is_err() {
                    return;
                }
            }
        });
        let (session, last_id, _profile) = (None, 0, profile);
        let mut tab = Self { process, requests, answers, session, last_id, _profile };
        let target = tab.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = tab.ask("Target.attachToTarget", attach);
        tab.session = attached["sessionId"].as_str().map(str::to_owned);
        tab
    }

    /// Goes to a page, and waits until it is loaded or has led on to another one.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str) {
        self.ask("Page.navigate", json!({"url": url}));
        self.wait_for("document.readyState === 'complete'");
    }

    /// Returns the value of an expression in the page; a promise is awaited.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", ask);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true, in whatever page there is.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, expression: &str) {
        until(expression, || {
            let shown = "location.href + '\\n' + document.documentElement?.innerText";
            let ask = |text: &str| json!({"expression": text, "returnByValue": true});
            // Between two pages there is none that could answer.
            let answer = self.try_ask("Runtime.evaluate", ask(expression))?;
            match &answer["result"]["value"] {
                Value::Bool(true) => Ok(()),
                _ => Err(self.try_ask("Runtime.evaluate", ask(shown))?["result"].to_string()),
            }
        });
    }

    /// Fills fields of a form by their names, and submits it as a person does.
    #[track_caller]
    pub(crate) fn submit(&mut self, form: &str, fields: &[(&str, &str)]) {
        let fields = json!(fields);
        let form = json!(form);
        self.value(&format!(
            "(() => {{ const form = document.querySelector({form}); \
             for (const [name, value] of {fields}) form.elements[name].value = value; \
             form.requestSubmit(); }})()"
        ));
    }

    /// Keeps a picture of the page in `target/dashboard`, for people to look at.
    #[track_caller]
    pub(crate) fn picture(&mut self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dashboard");
        fs::create_dir_all(&folder).unwrap();
        let picture = self.ask("Page.captureScreenshot", json!({"format": "png"}));
        let png = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        fs::write(folder.join(format!("{name}.png")), png).unwrap();
    }

    #[track_caller]
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.try_ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends a request; the error is the browser's.
    #[track_caller]
    fn try_ask(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut request = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.requests.write_all(request.to_string().as_bytes()).unwrap();
        self.requests.write_all(&[0]).unwrap();
        loop {
            let answer = self.answers.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.last_id {
                return match answer.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(answer["result"].clone()),
                };
            }
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
