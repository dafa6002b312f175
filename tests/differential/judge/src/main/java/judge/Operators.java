package judge;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/** The topology of a case: one windowed operator, or several in a chain. */
final class Operators {
    private Operators() {
    }

    /** Builds the chain behind the topic "in"; the last operator's results go to the sink. */
    static void build(
        final StreamsBuilder builder, final JsonNode operators, final Consumer<Record<Windowed<String>, Object>> sink) {
        KStream<String, Long> stream = builder.stream("in", Consumed.with(Serdes.String(), Serdes.Long()));
        for (int index = 0; index < operators.size(); index++) {
            final JsonNode operator = operators.get(index);
            final KStream<Windowed<String>, Object> results = results(stream, operator, "windows-" + index);
            if (index + 1 == operators.size()) {
                results.process(() -> new ContextualProcessor<Windowed<String>, Object, Void, Void>() {
                    @Override
                    public void process(final Record<Windowed<String>, Object> record) {
                        sink.accept(record);
                    }
                });
            } else {
                final String key = operators.get(index + 1).path("key").asText("same");
                stream = results.map((windowed, value) ->
                    KeyValue.pair(key.equals("same") ? windowed.key() : key, (Long) value));
            }
        }
    }

    private static KStream<Windowed<String>, Object> results(
        final KStream<String, Long> stream, final JsonNode operator, final String name) {
        final KGroupedStream<String, Long> grouped =
            stream.groupByKey(Grouped.with(name, Serdes.String(), Serdes.Long()));
        final String fold = operator.get("fold").asText();
        final String emit = operator.get("emit").asText();
        if (operator.get("window").asText().equals("session")) {
            return sessions(grouped, operator, fold, emit, name);
        }
        final Duration size = Duration.ofMillis(operator.get("size").asLong());
        final Duration grace = Duration.ofMillis(operator.get("grace").asLong());
        final TimeWindowedKStream<String, Long> windowed;
        if (operator.get("window").asText().equals("sliding")) {
            windowed = grouped.windowedBy(SlidingWindows.ofTimeDifferenceAndGrace(size, grace))
                .emitStrategy(strategy(emit));
        } else {
            final Duration advance = Duration.ofMillis(operator.path("advance").asLong(size.toMillis()));
            windowed = grouped.windowedBy(TimeWindows.ofSizeAndGrace(size, grace).advanceBy(advance))
                .emitStrategy(strategy(emit));
        }
        return switch (fold) {
            case "count" -> emitted(windowed.count(windows(operator, name, Serdes.Long())), emit);
            case "sum" -> emitted(
                windowed.aggregate(() -> 0L, (key, value, total) -> Folds.sum(total, value),
                    windows(operator, name, Serdes.Long())), emit);
            case "list" -> emitted(
                windowed.aggregate(ArrayList::new, (key, value, values) -> Folds.appended(values, value),
                    windows(operator, name, Folds.lists())), emit);
            default -> emitted(windowed.reduce(Folds.reducer(fold), windows(operator, name, Serdes.Long())), emit);
        };
    }

    private static KStream<Windowed<String>, Object> sessions(
        final KGroupedStream<String, Long> grouped,
        final JsonNode operator,
        final String fold,
        final String emit,
        final String name) {
        final Duration gap = Duration.ofMillis(operator.get("gap").asLong());
        final Duration grace = Duration.ofMillis(operator.get("grace").asLong());
        final SessionWindowedKStream<String, Long> windowed =
            grouped.windowedBy(SessionWindows.ofInactivityGapAndGrace(gap, grace)).emitStrategy(strategy(emit));
        return switch (fold) {
            case "count" -> emitted(windowed.count(sessions(operator, name, Serdes.Long())), emit);
            case "sum" -> emitted(
                windowed.aggregate(() -> 0L, (key, value, total) -> Folds.sum(total, value),
                    (key, first, second) -> first + second, sessions(operator, name, Serdes.Long())), emit);
            case "list" -> emitted(
                windowed.aggregate(ArrayList::new, (key, value, values) -> Folds.appended(values, value),
                    (key, first, second) -> Folds.joined(first, second), sessions(operator, name, Folds.lists())), emit);
            default -> emitted(windowed.reduce(Folds.reducer(fold), sessions(operator, name, Serdes.Long())), emit);
        };
    }

    private static EmitStrategy strategy(final String emit) {
        return emit.equals("close") ? EmitStrategy.onWindowClose() : EmitStrategy.onWindowUpdate();
    }

    /** "final" is suppress with an unbounded buffer, "close" the windows' own strategy. */
    private static <V> KStream<Windowed<String>, Object> emitted(
        final KTable<Windowed<String>, V> table, final String emit) {
        final KTable<Windowed<String>, V> shown =
            emit.equals("final") ? table.suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded())) : table;
        return shown.toStream().mapValues(value -> (Object) value);
    }

    /** In memory a store forgets to the millisecond, so it must keep what the operator still asks for. */
    private static <V> Materialized<String, V, WindowStore<Bytes, byte[]>> windows(
        final JsonNode operator, final String name, final Serde<V> values) {
        final Duration size = Duration.ofMillis(operator.get("size").asLong());
        final boolean sliding = operator.get("window").asText().equals("sliding");
        final Duration least = size.multipliedBy(sliding ? 3 : 1)
            .plusMillis(operator.get("grace").asLong() + (sliding ? 2 : 0));
        final Duration retention = Duration.ofMillis(operator.path("retention").asLong(least.toMillis()));
        final Materialized<String, V, WindowStore<Bytes, byte[]>> made = inMemory(operator)
            ? Materialized.as(Stores.inMemoryWindowStore(name, retention, size, false))
            : Materialized.<String, V, WindowStore<Bytes, byte[]>>as(name).withRetention(retention);
        return made.withKeySerde(Serdes.String()).withValueSerde(values)
            .withCachingDisabled().withLoggingDisabled();
    }

    /** One millisecond more than the gap and grace: a store forgets what is that old, the operator does not. */
    private static <V> Materialized<String, V, SessionStore<Bytes, byte[]>> sessions(
        final JsonNode operator, final String name, final Serde<V> values) {
        final long least = operator.get("gap").asLong() + operator.get("grace").asLong() + 1;
        final Duration retention = Duration.ofMillis(operator.path("retention").asLong(least));
        final Materialized<String, V, SessionStore<Bytes, byte[]>> made = inMemory(operator)
            ? Materialized.as(Stores.inMemorySessionStore(name, retention))
            : Materialized.<String, V, SessionStore<Bytes, byte[]>>as(name).withRetention(retention);
        return made.withKeySerde(Serdes.String()).withValueSerde(values)
            .withCachingDisabled().withLoggingDisabled();
    }

    private static boolean inMemory(final JsonNode operator) {
        return operator.path("store").asText("memory").equals("memory");
    }
}
