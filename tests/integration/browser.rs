//! Headless Chromium, driven through a pipe by the Chrome DevTools Protocol
//! (https://chromedevtools.github.io/devtools-protocol/). The browser ends with the pipe, however the test ends.
//! (The crates for this bring their own HTTP stack or thousands of generated types; the tests need eight methods.)

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use support::process;

/// Every wait normally takes a fraction of this time.
const LIMIT: Duration = Duration::from_secs(60);

/// Chromium reads commands from descriptor 3 and writes to descriptor 4, with a NUL after each message. Debian's
/// `chromium` is a script that starts the browser; the browser inherits the descriptors.
const STARTED: &str = r#"exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --no-first-run --disable-background-networking --disable-component-update --hide-scrollbars \
    --user-data-dir="$0" --remote-debugging-pipe 3<&0 4>&1 >/dev/null 2>"$0/log""#;

pub struct Browser {
    _child: Child,
    commands: ChildStdin,
    messages: BufReader<ChildStdout>,
    session: Option<String>,
    sent: u64,
    /// Protocol events received so far.
    pub events: Vec<Value>,
}

impl Browser {
    pub async fn start() -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(STARTED).arg(process::directory("browser"));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("a shell");
        let (commands, messages) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self { _child: child, commands, messages, session: None, sent: 0, events: vec![] };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attached).await;
        browser.session = Some(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Network", "Log", "Runtime", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Calls a method and waits for its result.
    pub async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut request = json!({ "id": self.sent, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{request}\0").as_bytes()).await.expect("the browser listens");
        loop {
            let message = self.next().await;
            if message["id"] == self.sent {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let read = tokio::time::timeout(LIMIT, self.messages.read_until(0, &mut message)).await;
        read.expect("the browser answers in time").expect("the browser's pipe");
        message.pop();
        serde_json::from_slice(&message).unwrap_or_else(|error| panic!("the browser has ended: {error}"))
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until("the page to be loaded", "document.readyState === 'complete' && location.href !== 'about:blank'")
            .await;
    }

    /// Evaluates a JavaScript expression in the page.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let found = self.call("Runtime.evaluate", asked).await;
        assert!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        found["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    pub async fn until(&mut self, what: &str, expression: &str) {
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        let looked = async {
            while self.evaluate(expression).await != true {
                pause.tick().await;
            }
        };
        let is = tokio::time::timeout(LIMIT, looked).await.is_ok();
        assert!(is, "waited {LIMIT:?} for {what}; the page shows: {}", self.evaluate("document.body.innerText").await);
    }

    /// Presses a key: Tab or Enter.
    pub async fn press(&mut self, key: &str) {
        let (code, text) = if key == "Enter" { (13, "\r") } else { (9, "") };
        let pressed = json!({ "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        for kind in ["keyDown", "keyUp"] {
            let mut event = pressed.clone();
            event["type"] = json!(kind);
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// What a screen reader announces: role and name of every accessibility node that is not ignored.
    pub async fn heard(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await;
        let text = |node: &Value, of: &str| node[of]["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().expect("nodes").iter();
        nodes.filter(|node| node["ignored"] != true).map(|node| (text(node, "role"), text(node, "name"))).collect()
    }

    /// Sets the preferred color scheme: `light` or `dark`.
    pub async fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Sets the width of the window, in pixels.
    pub async fn widen(&mut self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Saves a screenshot of the whole page as PNG, and returns it.
    pub async fn picture(&mut self, file: &Path) -> image::RgbImage {
        let asked = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", asked).await;
        let picture = STANDARD.decode(picture["data"].as_str().expect("data")).expect("base64");
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        std::fs::write(file, &picture).expect("a file");
        image::load_from_memory(&picture).expect("a PNG").into_rgb8()
    }
}
