//! The dashboard: a page that shows what [`events`](super::events) tells. It is part of the
//! program, asks no other host for anything, and may do nothing that its own files do not do.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::extract::{Name, Named};
use super::problem::{Code, Problem};
use super::route::{Access, Route};

/// What the page may do: load what is served beside it and ask this node, and nothing else.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; object-src 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// The page itself.
const PAGE: File = File::new("index.html", HTML, include_str!("../dashboard/index.html"));

/// What the page is made of.
const FILES: [File; 10] = [
    File::new("style.css", CSS, include_str!("../dashboard/style.css")),
    File::new("panels.css", CSS, include_str!("../dashboard/panels.css")),
    File::new("icon.svg", ICON, include_str!("../dashboard/icon.svg")),
    File::new("main.js", SCRIPT, include_str!("../dashboard/main.js")),
    File::new("api.js", SCRIPT, include_str!("../dashboard/api.js")),
    File::new("dom.js", SCRIPT, include_str!("../dashboard/dom.js")),
    File::new("nodes.js", SCRIPT, include_str!("../dashboard/nodes.js")),
    File::new("locks.js", SCRIPT, include_str!("../dashboard/locks.js")),
    File::new("ring.js", SCRIPT, include_str!("../dashboard/ring.js")),
    File::new("data.js", SCRIPT, include_str!("../dashboard/data.js")),
];

struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

impl File {
    const fn new(name: &'static str, media_type: &'static str, text: &'static str) -> Self {
        Self { name, media_type, text }
    }
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", Access::Public, page)
            .named("getDashboard", "The dashboard.")
            .answers_as("text/html", "A page for browsers."),
        Route::get("/dashboard/{file}", Access::Public, file)
            .named("getDashboardFile", "What the dashboard is made of.")
            .answers_as("text/plain", "A script, a style sheet or a picture.")
            .refuses(&[Code::NotFound, Code::InvalidRequest]),
    ]
}

struct FileName(String);

impl Named for FileName {
    fn named(name: String) -> Result<Self, String> {
        Ok(Self(name))
    }
}

async fn page() -> Response {
    PAGE.into_response()
}

async fn file(Name(FileName(name)): Name<FileName>) -> Result<Response, Problem> {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => Ok(file.into_response()),
        None => Err(Problem::new(Code::NotFound, "the dashboard has no such file")),
    }
}

impl IntoResponse for &File {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.media_type)),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            // Another version of the program has another page.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        (headers, self.text).into_response()
    }
}
