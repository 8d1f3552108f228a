//! Parses one AMQP connection: which delivery carried which message, which deliveries the client settled, and which
//! publishes the broker confirmed. Keeps only unsettled deliveries and publishes in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm};

use super::frames::{Frame, Frames};
use super::head::Head;
use super::ledger::Id;
use super::wire::{Event, Wire};
use support::proxy::Ear;

pub struct Conversation {
    wire: Wire,
    requests: Option<Frames>,
    answers: Option<Frames>,
    channels: HashMap<u16, Channel>,
}

#[derive(Default)]
struct Channel {
    consumers: HashMap<String, Consumer>,
    /// Indexes of delivery events, by delivery tag.
    held: BTreeMap<u64, usize>,
    confirms: bool,
    published: u64,
    unconfirmed: BTreeMap<u64, Published>,
    /// Routing key of the publish whose content header comes next.
    publishing: Option<Arc<str>>,
    arriving: Option<Arriving>,
}

#[derive(Clone)]
struct Consumer {
    queue: Arc<str>,
    /// A delivery counts as acknowledged when it is sent (`no_ack`).
    automatic: bool,
}

struct Published {
    id: Option<Id>,
    queue: Arc<str>,
    renewed: bool,
    returned: bool,
}

enum Arriving {
    Delivery(basic::Deliver),
    Return,
}

impl Conversation {
    pub fn new(wire: &Wire) -> Self {
        let (requests, answers) = (Some(Frames::default()), Some(Frames::default()));
        Self { wire: wire.clone(), requests, answers, channels: HashMap::new() }
    }

    fn channel(&mut self, number: u16) -> (&Wire, &mut Channel) {
        (&self.wire, self.channels.entry(number).or_default())
    }

    fn requested(&mut self, frame: Frame) {
        match frame {
            Frame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                self.channels.insert(number, Channel::default());
            }
            Frame::Method(number, AMQPClass::Confirm(confirm::AMQPMethod::Select(_))) => {
                self.channel(number).1.confirms = true;
            }
            Frame::Method(number, AMQPClass::Basic(method)) => {
                let (wire, channel) = self.channel(number);
                channel.asked(wire, method);
            }
            Frame::Head(number, head) => self.channel(number).1.published(&head),
            _ => {}
        }
    }

    fn answered(&mut self, frame: Frame) {
        match frame {
            Frame::Method(number, AMQPClass::Basic(method)) => {
                let (wire, channel) = self.channel(number);
                channel.told(wire, method);
            }
            Frame::Head(number, head) => {
                let (wire, channel) = self.channel(number);
                channel.arrived(wire, &head);
            }
            Frame::Method(..) => {}
        }
    }
}

impl Ear for Conversation {
    fn request(&mut self, bytes: &[u8]) {
        let Some(mut frames) = self.requests.take() else { return };
        match frames.hear(bytes, |frame| self.requested(frame)) {
            Ok(()) => self.requests = Some(frames),
            Err(why) => {
                self.wire.note(Event::Unclear(format!("a client sent {why}")));
            }
        }
    }

    fn answer(&mut self, bytes: &[u8]) {
        let Some(mut frames) = self.answers.take() else { return };
        match frames.hear(bytes, |frame| self.answered(frame)) {
            Ok(()) => self.answers = Some(frames),
            Err(why) => {
                self.wire.note(Event::Unclear(format!("the broker sent {why}")));
            }
        }
    }
}

impl Channel {
    fn asked(&mut self, wire: &Wire, method: basic::AMQPMethod) {
        use basic::AMQPMethod::{Ack, Consume, Nack, Publish, Reject};
        match method {
            Consume(asked) => {
                let consumer = Consumer { queue: asked.queue.as_str().into(), automatic: asked.no_ack };
                self.consumers.insert(asked.consumer_tag.to_string(), consumer);
            }
            Publish(asked) => self.publishing = Some(asked.routing_key.as_str().into()),
            Ack(asked) => {
                for delivery in self.settled(wire, asked.delivery_tag, asked.multiple) {
                    wire.note(Event::Acknowledged { delivery });
                }
            }
            Nack(asked) => self.give_up(wire, asked.delivery_tag, asked.multiple, asked.requeue),
            Reject(asked) => self.give_up(wire, asked.delivery_tag, false, asked.requeue),
            _ => {}
        }
    }

    fn give_up(&mut self, wire: &Wire, tag: u64, multiple: bool, requeue: bool) {
        for delivery in self.settled(wire, tag, multiple) {
            wire.note(Event::GivenUp { delivery, requeue });
        }
    }

    /// The deliveries that a client settles with this tag.
    fn settled(&mut self, wire: &Wire, tag: u64, multiple: bool) -> Vec<usize> {
        let settled = taken(&mut self.held, tag, multiple);
        if settled.is_empty() {
            wire.note(Event::Unclear(format!("a client settled delivery {tag}, which was not seen")));
        }
        settled
    }

    fn published(&mut self, head: &Head) {
        let Some(queue) = self.publishing.take() else { return };
        if self.confirms {
            self.published += 1;
            let published = Published { id: head.id, queue, renewed: head.is_renewed, returned: false };
            self.unconfirmed.insert(self.published, published);
        }
    }

    fn told(&mut self, wire: &Wire, method: basic::AMQPMethod) {
        use basic::AMQPMethod::{Ack, Deliver, Nack, Return};
        match method {
            Deliver(delivery) => self.arriving = Some(Arriving::Delivery(delivery)),
            Return(_) => self.arriving = Some(Arriving::Return),
            Ack(told) => {
                for published in taken(&mut self.unconfirmed, told.delivery_tag, told.multiple) {
                    let Published { id, queue, renewed, returned } = published;
                    if !returned {
                        wire.note(Event::Confirmed { id, queue, renewed });
                    }
                }
            }
            Nack(told) => drop(taken(&mut self.unconfirmed, told.delivery_tag, told.multiple)),
            _ => {}
        }
    }

    fn arrived(&mut self, wire: &Wire, head: &Head) {
        let id = head.id;
        match self.arriving.take() {
            Some(Arriving::Delivery(delivery)) => {
                let Some(consumer) = self.consumers.get(delivery.consumer_tag.as_str()) else {
                    wire.note(Event::Unclear(format!("a delivery to {}, who was not seen", delivery.consumer_tag)));
                    return;
                };
                let (queue, redelivered) = (Arc::clone(&consumer.queue), delivery.redelivered);
                let place = wire.note(Event::Delivered { id, queue, redelivered });
                if consumer.automatic {
                    wire.note(Event::Acknowledged { delivery: place });
                } else {
                    self.held.insert(delivery.delivery_tag, place);
                }
            }
            Some(Arriving::Return) => {
                let mut sent = self.unconfirmed.values_mut();
                if let Some(sent) = sent.find(|sent| sent.id == id && !sent.returned) {
                    sent.returned = true;
                }
            }
            None => {}
        }
    }
}

/// Removes what a delivery tag stands for: one entry, or with `multiple` all entries up to it. Tag 0 means all.
fn taken<T>(held: &mut BTreeMap<u64, T>, tag: u64, multiple: bool) -> Vec<T> {
    match (multiple, tag) {
        (false, _) => held.remove(&tag).into_iter().collect(),
        (true, 0) => std::mem::take(held).into_values().collect(),
        (true, _) => {
            let later = held.split_off(&(tag + 1));
            std::mem::replace(held, later).into_values().collect()
        }
    }
}
