import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Scanner;

/** Redisson and parallel-consumer, each as its documentation shows, to be told what to do: see ../README.md. */
public final class Peer {
    interface Server {
        /** Does what a line says, and answers in JSON. */
        String obey(Scanner order) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Server server;
        switch (args.length == 2 ? args[0] : "") {
            case "redis" -> {
                server = new Locks(args[1].split(",")[0]);
                System.out.println("ready " + Locks.versions());
            }
            case "kafka" -> {
                server = new Records(args[1]);
                System.out.println("ready " + Records.versions());
            }
            default -> throw new IllegalArgumentException("say `redis URL,…` or `kafka BROKERS`");
        }
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(server.obey(new Scanner(line)));
        }
        System.exit(0); // Threads of the libraries may still wait.
    }

    /** The version that a jar says of itself, in its name. */
    static String version(Class<?> of, String artifact) {
        String jar = of.getProtectionDomain().getCodeSource().getLocation().getPath();
        return jar.substring(jar.lastIndexOf(artifact) + artifact.length() + 1, jar.length() - ".jar".length());
    }

    static void work(long micros) throws InterruptedException {
        if (micros > 0) {
            Thread.sleep(micros / 1000, (int) (micros % 1000) * 1000);
        }
    }
}
