//! The web page. Its files are part of the program.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::shared::Shared;

/// Path, type and content of each file.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/watch.css", "text/css; charset=utf-8", include_str!("page/watch.css")),
    ("/watch.js", "text/javascript; charset=utf-8", include_str!("page/watch.js")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/chat.js", "text/javascript; charset=utf-8", include_str!("page/chat.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// The files at their paths.
pub(crate) fn router() -> Router<Arc<Shared>> {
    FILES.iter().fold(Router::new(), |router, &(path, kind, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], text)))
    })
}
