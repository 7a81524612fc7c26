import java.util.ArrayList;
import java.util.List;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.redisson.Redisson;
import org.redisson.api.RLock;
import org.redisson.api.RPermitExpirableSemaphore;
import org.redisson.api.RSemaphore;
import org.redisson.api.RedissonClient;
import org.redisson.config.Config;

/** Redisson's locks and semaphores on one Redis, with its default configuration. A task is a thread. */
final class Locks implements Peer.Server {
    /** For how long a permit is granted that has no watchdog. */
    private static final long TTL_MS = 30_000;

    private final RedissonClient redisson;

    Locks(String url) {
        var config = new Config();
        config.useSingleServer().setAddress(url.replaceAll("/$", ""));
        redisson = Redisson.create(config);
    }

    static String versions() {
        String version = Peer.version(Redisson.class, "redisson");
        return String.join(" " + version + " ", "redisson-lock", "redisson-fair", "redisson-permits", "redisson-semaphore")
                + " " + version;
    }

    /** A lock or a semaphore as one task has it. */
    interface Taker {
        void acquire() throws Exception;

        void release() throws Exception;
    }

    private Taker open(String kind, String name, int permits) {
        switch (kind) {
            case "redisson-lock":
                return taker(redisson.getLock(name));
            case "redisson-fair":
                return taker(redisson.getFairLock(name));
            case "redisson-semaphore":
                RSemaphore semaphore = redisson.getSemaphore(name);
                semaphore.trySetPermits(permits);
                return new Taker() {
                    public void acquire() throws InterruptedException {
                        semaphore.acquire();
                    }

                    public void release() {
                        semaphore.release();
                    }
                };
            case "redisson-permits":
                RPermitExpirableSemaphore expirable = redisson.getPermitExpirableSemaphore(name);
                expirable.trySetPermits(permits);
                return new Taker() {
                    private String permit;

                    public void acquire() throws InterruptedException {
                        permit = expirable.acquire(TTL_MS, TimeUnit.MILLISECONDS);
                    }

                    public void release() {
                        expirable.release(permit);
                    }
                };
            default:
                throw new IllegalArgumentException("nothing is called " + kind);
        }
    }

    private static Taker taker(RLock lock) {
        return new Taker() {
            public void acquire() {
                lock.lock();
            }

            public void release() {
                lock.unlock();
            }
        };
    }

    /** What one task did; times are in ns of the system's monotonic clock, which is what nanoTime has on Linux. */
    private static final class Done {
        final StringBuilder turns = new StringBuilder();
        long asked;
        int errors;
        String error;
        boolean over;

        /** Since when it waits; 0 if it does not. Says whether the round is over. */
        synchronized boolean waits(long since) {
            if (!over) {
                asked = since;
            }
            return over;
        }

        synchronized void turn(long asked, long held, long gives, long after) {
            turns.append(turns.length() == 0 ? "[" : ",[").append(asked).append(',').append(held);
            turns.append(',').append(gives).append(',').append(after).append(']');
        }

        synchronized void failed(Exception exception) {
            errors++;
            error = error == null ? exception.toString() : error;
        }
    }

    @Override
    public String obey(Scanner order) throws Exception {
        String kind = order.next();
        String name = order.next();
        int tasks = order.nextInt();
        int names = order.nextInt();
        int permits = order.nextInt();
        long work = order.nextLong();
        long pause = order.nextLong();
        long begin = order.nextLong();
        long end = order.nextLong();
        long patience = order.nextLong();
        var all = new ArrayList<Done>();
        var ended = new CountDownLatch(tasks);
        for (int task = 0; task < tasks; task++) {
            var taker = open(kind, name + "-" + task % names, permits);
            var done = new Done();
            all.add(done);
            var thread = new Thread(() -> {
                try {
                    turns(taker, done, begin, end, work, pause);
                } catch (InterruptedException never) {
                    done.failed(never);
                }
                ended.countDown();
            });
            thread.setDaemon(true);
            thread.start();
        }
        ended.await(end - System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(patience), TimeUnit.NANOSECONDS);
        return reply(all);
    }

    private static void turns(Taker taker, Done done, long begin, long end, long work, long pause)
            throws InterruptedException {
        TimeUnit.NANOSECONDS.sleep(begin - System.nanoTime());
        long asked = 0; // An error is no end of waiting.
        while (System.nanoTime() < end) {
            asked = asked == 0 ? System.nanoTime() : asked;
            if (done.waits(asked)) {
                return;
            }
            try {
                taker.acquire();
            } catch (Exception exception) {
                done.failed(exception);
                Thread.sleep(1);
                continue;
            }
            long held = System.nanoTime();
            done.waits(0);
            Peer.work(work);
            long gives = System.nanoTime();
            try {
                taker.release();
            } catch (Exception exception) {
                done.failed(exception);
            }
            done.turn(asked, held, gives, System.nanoTime());
            asked = 0;
            Peer.work(pause);
        }
        done.waits(0);
    }

    private static String reply(List<Done> all) {
        var turns = new ArrayList<String>();
        var stuck = new ArrayList<String>();
        int errors = 0;
        String error = null;
        for (var done : all) {
            synchronized (done) {
                done.over = true;
                if (done.turns.length() > 0) {
                    turns.add(done.turns.toString());
                }
                if (done.asked != 0) {
                    stuck.add(Long.toString(done.asked));
                }
                errors += done.errors;
                error = error == null ? done.error : error;
            }
        }
        String said = error == null ? "null" : '"' + error.replaceAll("[\"\\\\\\p{Cntrl}]", " ") + '"';
        return "{\"turns\":[" + String.join(",", turns) + "],\"stuck\":[" + String.join(",", stuck) + "],\"errors\":"
                + errors + ",\"error\":" + said + "}";
    }
}
