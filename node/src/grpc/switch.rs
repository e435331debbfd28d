//! Routes that may change while the door is open: an unjoined node answers administration only, a member everything.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use tower::Service;

/// A router behind which another can be put. Cheap to clone; all clones switch together.
#[derive(Clone)]
pub struct Switch(Arc<RwLock<Router>>);

impl Switch {
    /// Begins with these routes.
    pub fn new(routes: Router) -> Self {
        Switch(Arc::new(RwLock::new(routes)))
    }

    /// Requests from now on take these routes.
    pub fn set(&self, routes: Router) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = routes;
    }

    /// A router that passes everything through the switch.
    pub fn router(&self) -> Router {
        Router::new().fallback_service(self.clone())
    }
}

impl Service<Request<Body>> for Switch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut routes = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Box::pin(async move { routes.call(request).await })
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::StatusCode;

    use super::*;

    async fn status(router: &mut Router, path: &str) -> StatusCode {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        router.call(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn an_open_door_follows_the_switch() {
        let switch = Switch::new(Router::new().route("/a", get(async || "a")));
        let mut door = switch.router();
        assert_eq!(status(&mut door, "/a").await, StatusCode::OK);
        assert_eq!(status(&mut door, "/b").await, StatusCode::NOT_FOUND);
        switch.set(Router::new().route("/b", get(async || "b")));
        assert_eq!(status(&mut door, "/a").await, StatusCode::NOT_FOUND);
        assert_eq!(status(&mut door, "/b").await, StatusCode::OK);
    }
}
