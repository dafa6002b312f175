package judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;

/** Reads cases as JSON lines on stdin, writes what Kafka Streams makes of them as JSON lines on stdout. */
public final class Judge {
    static final ObjectMapper JSON = new ObjectMapper();

    private Judge() {
    }

    /** One line in, one line out, until stdin ends. The schema is described in cases.py. */
    public static void main(final String[] arguments) throws IOException {
        final BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        final PrintWriter out = new PrintWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(JSON.writeValueAsString(answer(JSON.readTree(line))));
        }
        out.flush();
    }

    /** The outputs and the count of dropped records for each input record, in order. */
    private static ObjectNode answer(final JsonNode given) {
        final ArrayNode outputs = JSON.createArrayNode();
        final ArrayNode dropped = JSON.createArrayNode();
        try (Run run = new Run(given.get("ops"))) {
            for (final JsonNode record : given.get("in")) {
                final double before = record.isTextual() ? 0 : run.dropped();
                outputs.add(record.isTextual() ? run.restart() : run.pipe(record));
                dropped.add(record.isTextual() ? 0 : (long) (run.dropped() - before));
            }
        }
        final ObjectNode answer = JSON.createObjectNode();
        answer.set("out", outputs);
        answer.set("dropped", dropped);
        return answer;
    }
}
