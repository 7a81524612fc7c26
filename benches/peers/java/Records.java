import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** parallel-consumer in the order of keys, with its default commit mode. */
final class Records implements Peer.Server {
    private static final int KEYS = 1_000;
    private static final long IN_HAND = Long.MIN_VALUE;

    private final String brokers;

    Records(String brokers) {
        this.brokers = brokers;
    }

    static String versions() {
        return "parallel-consumer " + Peer.version(ParallelStreamProcessor.class, "parallel-consumer-core");
    }

    @Override
    public String obey(Scanner order) throws Exception {
        String kind = order.next();
        String topic = order.next();
        long records = order.nextLong();
        long work = order.nextLong();
        int concurrency = order.nextInt();
        long limit = TimeUnit.MILLISECONDS.toNanos(order.nextLong());
        if (!kind.equals("parallel-consumer")) {
            throw new IllegalArgumentException("nothing is called " + kind);
        }
        var consumer = new KafkaConsumer<byte[], byte[]>(Map.of(
                "bootstrap.servers", brokers,
                "group.id", "parallel-" + UUID.randomUUID(),
                "enable.auto.commit", "false",
                "auto.offset.reset", "earliest",
                "key.deserializer", ByteArrayDeserializer.class.getName(),
                "value.deserializer", ByteArrayDeserializer.class.getName()));
        var processor = ParallelStreamProcessor.createEosStreamProcessor(ParallelConsumerOptions.<byte[], byte[]>builder()
                .ordering(ProcessingOrder.KEY)
                .maxConcurrency(concurrency)
                .consumer(consumer)
                .build());
        processor.subscribe(List.of(topic));

        // Of each key, the offset that was done last; and while one is in hand, less than any.
        var keys = new AtomicLongArray(KEYS);
        for (int key = 0; key < KEYS; key++) {
            keys.set(key, -1);
        }
        var first = new AtomicLong();
        var last = new AtomicLong();
        var handled = new AtomicLong();
        var disorder = new AtomicLong();
        var end = new CountDownLatch(1);
        processor.poll(context -> {
            var record = context.getSingleConsumerRecord();
            int key = ByteBuffer.wrap(record.key()).getInt();
            if (first.get() == 0) {
                first.compareAndSet(0, System.nanoTime());
            }
            long before = keys.getAndSet(key, IN_HAND);
            if (before == IN_HAND || before >= record.offset()) {
                disorder.incrementAndGet();
            }
            try {
                Peer.work(work);
            } catch (InterruptedException closing) {
                return;
            }
            keys.set(key, record.offset());
            long soFar = handled.incrementAndGet();
            // Looking at the clock costs something: not for each record.
            if (soFar % 64 == 0 || soFar >= records || work > 0) {
                long now = System.nanoTime();
                last.accumulateAndGet(now, Math::max);
                if (soFar >= records || now - first.get() > limit) {
                    end.countDown();
                }
            }
        });
        end.await();
        // What is counted is what was done by then; the rest of the topic is of no interest.
        String reply = String.format("{\"first\":%d,\"last\":%d,\"handled\":%d,\"disorder\":%d}",
                first.get(), last.get(), handled.get(), disorder.get());
        processor.closeDontDrainFirst();
        return reply;
    }
}
