//! Operations for `parked`: take one message at a time, and redrive it. The caller acknowledges the original after the
//! copy is confirmed.

use lapin::options::BasicGetOptions;

use super::{Channel, Delivery, QueueError, properties, short, within};

impl Channel {
    /// Gets the next ready message (`basic.get`), and the number of messages that are still ready. When the connection
    /// ends, an unacknowledged message returns to the queue, and a quorum queue counts the return.
    ///
    /// # Errors
    /// The queue does not exist, or the user may not read it; or a timeout.
    pub async fn get(&self, queue: &str) -> Result<Option<(Delivery, u32)>, QueueError> {
        within("taking a message", async {
            let taken = self.inner.basic_get(short(queue)?, BasicGetOptions::default()).await;
            let taken = taken.map_err(|error| QueueError::on_queue(queue, &error))?;
            Ok(taken.map(|message| (Delivery::new(message.delivery), message.message_count)))
        })
        .await
    }

    /// Publishes a parked message to `queue`, and waits for the confirm. `times` is the number of redrives of the
    /// message, including this one. The channel must be in confirm mode.
    ///
    /// # Errors
    /// The broker rejected the message, returned it (the queue does not exist), blocks publishers, or did not confirm
    /// in time. The message may or may not be in the queue.
    pub async fn redrive(&self, queue: &str, delivery: &Delivery, times: u32) -> Result<(), QueueError> {
        self.publish_unless_blocked(queue, delivery.body(), properties::redriven(delivery.properties(), times)).await
    }
}

impl Delivery {
    /// How often this message was redriven.
    pub fn redriven(&self) -> u32 {
        self.header(properties::REDRIVEN).and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}
