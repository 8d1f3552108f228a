//! A model of a quorum queue: FIFO, a returned message goes to the front, and a message that is returned more often
//! than the delivery limit is dropped (RabbitMQ's quorum queue guide, "Poison Message Handling").

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Number of the published message; a renewed copy keeps the number.
    pub number: usize,
    pub returns: u64,
    pub redelivered: bool,
    pub renewals: u64,
}

pub struct Queue {
    pub ready: VecDeque<Message>,
    limit: u64,
}

impl Queue {
    pub fn new(messages: usize, limit: u64) -> Self {
        let published = |number| Message { number, returns: 0, redelivered: false, renewals: 0 };
        Self { ready: (0..messages).map(published).collect(), limit }
    }

    pub fn give_back(&mut self, message: Message) {
        let message = Message { returns: message.returns + 1, redelivered: true, ..message };
        assert!(message.returns <= self.limit, "message {} is dropped by the delivery limit", message.number);
        self.ready.push_front(message);
    }

    /// `messages` in the order of delivery: the first one returns to the front.
    pub fn give_back_all(&mut self, messages: impl DoubleEndedIterator<Item = Message>) {
        for message in messages.rev() {
            self.give_back(message);
        }
    }

    pub fn publish(&mut self, number: usize, renewals: u64) {
        self.ready.push_back(Message { number, returns: 0, redelivered: false, renewals });
    }
}
