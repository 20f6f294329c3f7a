//! Each transfer is a span, which its handler is within.
#![cfg(all(feature = "tracing", feature = "sim"))]

mod common;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use common::simulated::Simulated;
use tracing::{
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::with_default,
};
use tracing_subscriber::{
    Registry,
    layer::{Context, Layer, SubscriberExt},
};
use tuffet::{Request, read};

#[derive(Clone, Default)]
struct Fields(Arc<Mutex<Vec<String>>>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.lock().unwrap().push(format!("{field}={value:?}"));
    }
}

struct Layered(Fields);

impl<S: tracing::Subscriber> Layer<S> for Layered {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        attributes.record(&mut self.0.clone());
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        values.record(&mut self.0.clone());
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.0.0.lock().unwrap().push("closed".into());
    }
}

#[test]
fn a_transfer_is_a_span_with_its_outcome() {
    let fields = Fields::default();
    with_default(Registry::default().with(Layered(fields.clone())), || {
        let server = Simulated::new(read(async |_: Request| {
            let within = tracing::Span::current().metadata().map(|metadata| metadata.name());
            within.unwrap_or("nothing").to_owned()
        }));
        let mut peer = server.peer();
        peer.rrq("pxelinux.0", &[]).expect_data(1, "transfer");
        peer.ack(1);
        server.record();
    });
    let fields = fields.0.lock().unwrap();
    let peer = fields.iter().position(|field| field.starts_with("peer=192.0.2.7:")).expect("the peer");
    assert_eq!(fields[peer + 1..], ["file=pxelinux.0", "direction=read", "outcome=\"complete\"", "bytes=8", "closed"]);
}
