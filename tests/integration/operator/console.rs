//! The operator's console in a real browser, with an API server in memory and a real broker: keyboard, screen
//! reader, light and dark colors, narrow and wide windows, and live updates. Screenshots are written to
//! target/console.

use std::path::{Path, PathBuf};

use image_pipeline::console::About;
use image_pipeline::controller::Instruments;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::browser::Browser;
use servers::broker::{Broker, Version};
use servers::client::Client;
use servers::objects;
use servers::operator::{self, until};
use support::api_server::ApiServer;
use support::port::Port;

/// Elements with text whose contrast to their background is below 4.5 (WCAG 2.2, 1.4.3).
const FAINT: &str = r"(() => {
    const channel = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
    const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const colour = numbers(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const speaks = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const faint = [];
    for (const element of document.querySelectorAll('body *:not(script)')) {
        if (!speaks(element)) continue;
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const [light, dark] = [luminance(numbers(colour)), luminance(behind(element))].sort((a, b) => b - a);
        const contrast = (light + 0.05) / (dark + 0.05);
        if (contrast < 4.5) faint.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
    }
    return faint;
})()";

/// Id or text of the focused element.
const FOCUSED: &str = "document.activeElement.id || document.activeElement.textContent.trim()";

fn pipeline(name: &str, secret: &str) -> Value {
    let changes = json!({
        "source": { "rabbitmq": { "vhost": "console", "rabbitmqClusterReference": objects::connection_secret(secret) } },
        "destination": { "s3": { "bucket": "bucket-greench" } },
        "scaling": { "pollInterval": "500ms" },
        "replicas": 0,
    });
    objects::pipeline("forest", name, &changes)
}

/// Connection Secret of the broker.
fn connection(name: &str, port: u16) -> Value {
    let port = port.to_string();
    objects::secret(
        "forest",
        name,
        &[("host", "127.0.0.1"), ("port", &port), ("username", "console"), ("password", "console")],
    )
}

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/console").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_is_read_by_key_and_by_ear_and_follows_what_happens() {
    let broker = Broker::shared(Version::Three).await;
    let here = broker.tenant("console");
    let device = Client::connect(&here).await.expect("a connection");
    device.declare("tiles", Version::Three.queue_type()).await;
    let mut unreadable = pipeline("unreadable", "broker");
    unreadable["spec"]["scaling"]["pollInterval"] = json!(7);
    let pipelines = vec![pipeline("oak", "broker"), pipeline("pine", "lost"), unreadable];
    let (server, client) = ApiServer::start(pipelines, vec![connection("broker", here.port)], vec![]).await;
    let (instruments, stop) = (Instruments::default(), CancellationToken::new());
    let (probes, console) = (Port::reserve(), Port::reserve());
    let about = About { identity: "operator-1".to_owned(), ..About::default() };
    let servers = instruments.serve(probes.address(), Some(console.address()), about, &stop).await.expect("servers");
    let mut browser = Browser::start().await;
    operator::run(operator::settings(&[]), client, instruments, async {
        until("all pipelines to be reconciled", || {
            ["oak", "pine", "unreadable"].iter().all(|name| !server.condition(name, "Ready").trim().is_empty())
        })
        .await;
        browser.open(&format!("http://{}/", console.address())).await;
        is_told_in_order(&mut browser).await;
        is_heard(&mut browser).await;
        goes_by_key(&mut browser).await;
        server.put("secrets", connection("lost", here.port));
        follows(&mut browser).await;
        is_seen(&mut browser).await;
        finds(&mut browser).await;
    })
    .await;
    stop.cancel();
    servers.join_all().await;
    browser.until("the end to be shown", "summary.textContent.startsWith('The operator does not answer')").await;
    asked_nobody_else(&browser, &format!("http://{}/", console.address()));
}

/// Pipelines that need attention come first, each with its cause and next step.
async fn is_told_in_order(browser: &mut Browser) {
    let names = "[...document.querySelectorAll('article')].map((article) => article.id)";
    assert_eq!(browser.evaluate(names).await, json!(["forest/pine", "forest/unreadable", "forest/oak"]));
    let text = browser.evaluate("document.body.innerText").await;
    let text = text.as_str().expect("a text");
    for expected in
        ["3 pipelines: 2 need attention, 1 fine.", "SecretNotFound", "\"lost\"", "InvalidSpec", "Stopped", "operator-1"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

async fn is_heard(browser: &mut Browser) {
    let heard = browser.heard().await;
    let of = |role: &str| -> Vec<&str> {
        heard.iter().filter(|(of, _)| of == role).map(|(_, name)| name.as_str()).collect()
    };
    let headings = of("heading");
    assert_eq!(headings.len(), 4, "{headings:?}");
    assert_eq!(headings[..2], ["Image pipelines", "needs attention forest/pine SecretNotFound"]);
    assert_eq!(of("article")[2], "fine forest/oak Stopped");
    let plots = of("image");
    assert_eq!(plots.len(), 8, "{plots:?}");
    assert!(
        plots.iter().any(|plot| plot.starts_with("Waiting over the last hour: 0; at most 0; known for ")),
        "{plots:?}"
    );
    assert_eq!(of("searchbox"), ["Find a pipeline"]);
    assert_eq!((of("main"), of("status").len()), (vec!["Pipelines"], 1));
    let unfold = heard.iter().filter(|(role, name)| role == "DisclosureTriangle" && name.ends_with("of forest/pine"));
    assert_eq!(unfold.count(), 1, "{heard:?}");
}

async fn goes_by_key(browser: &mut Browser) {
    let mut focused = Vec::new();
    for _ in 0..5 {
        browser.press("Tab").await;
        focused.push(browser.evaluate(FOCUSED).await);
    }
    let expected = ["To the pipelines", "pause", "find", "Find", "All conditions of forest/pine"];
    assert_eq!(focused, expected.map(|name| json!(name)));
    browser.press("Enter").await;
    assert_eq!(browser.evaluate("document.getElementById('forest/pine:conditions').open").await, true);
    assert_ne!(browser.evaluate("getComputedStyle(document.activeElement).outlineStyle").await, "none");
}

/// The page updates without any action of the reader, and keeps open sections and the focus.
async fn follows(browser: &mut Browser) {
    let fine = "document.getElementById('forest/pine').className === 'fine'";
    browser.until("the recovered pipeline to be shown as fine", fine).await;
    let conditions = "document.getElementById('forest/pine:conditions')";
    assert_eq!(browser.evaluate(&format!("{conditions}.open")).await, true, "the section was closed again");
    assert_eq!(browser.evaluate(FOCUSED).await, "All conditions of forest/pine");
    let told = "document.getElementById('summary').textContent === '3 pipelines: 1 needs attention, 2 fine.'";
    browser.until("the summary to follow", told).await;
}

async fn is_seen(browser: &mut Browser) {
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        browser.widen(1280).await;
        assert_eq!(browser.evaluate(FAINT).await, json!([]), "{scheme}");
        let picture = browser.picture(&picture(&format!("{scheme}.png"))).await;
        grounds.push(picture.get_pixel(2, 2).0.iter().map(|&channel| u32::from(channel)).sum::<u32>());
    }
    assert!(grounds[0] > 600 && grounds[1] < 150, "{grounds:?}");
    browser.widen(360).await;
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth").await, 360, "wider than 360 pixels");
    browser.picture(&picture("narrow.png")).await;
}

async fn finds(browser: &mut Browser) {
    let find = "document.getElementById('find').value = 'oak'; document.querySelector('form').requestSubmit()";
    browser.evaluate(find).await;
    let found = "document.querySelectorAll('article').length === 1 && location.search === '?find=oak'";
    browser.until("one pipeline to be found", found).await;
}

/// The page requested only its own origin. No request was blocked by its policy, and no script failed.
fn asked_nobody_else(browser: &Browser, origin: &str) {
    let of = |method: &'static str| browser.events.iter().filter(move |event| event["method"] == method);
    let asked: Vec<_> =
        of("Network.requestWillBeSent").filter_map(|event| event["params"]["request"]["url"].as_str()).collect();
    let elsewhere: Vec<_> = asked.iter().filter(|url| !url.starts_with(origin) && **url != "about:blank").collect();
    assert!(asked.len() > 3 && elsewhere.is_empty(), "{asked:?}");
    assert_eq!(of("Runtime.exceptionThrown").count(), 0);
    let refused = |event: &&Value| event.to_string().contains("Content Security Policy");
    assert_eq!(of("Log.entryAdded").filter(refused).collect::<Vec<_>>(), Vec::<&Value>::new());
}
