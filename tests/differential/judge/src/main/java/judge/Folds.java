package judge;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.core.JsonProcessingException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.Reducer;

/** What is made of the values of a window. A null value, where Kafka Streams lets it in, changes no number. */
final class Folds {
    private Folds() {
    }

    /** The function of "reduce", "min" or "max". */
    static Reducer<Long> reducer(final String fold) {
        final Reducer<Long> both = switch (fold) {
            case "reduce" -> Long::sum;
            case "min" -> Math::min;
            case "max" -> Math::max;
            default -> throw new IllegalArgumentException("no such fold: " + fold);
        };
        return (old, value) -> value == null ? old : both.apply(old, value);
    }

    static Long sum(final Long total, final Long value) {
        return value == null ? total : total + value;
    }

    /** The values of one list and then of the other. */
    static List<Long> joined(final List<Long> first, final List<Long> second) {
        final List<Long> both = new ArrayList<>(first);
        both.addAll(second);
        return both;
    }

    static List<Long> appended(final List<Long> values, final Long value) {
        final List<Long> more = new ArrayList<>(values);
        more.add(value);
        return more;
    }

    /** Lists of numbers and nulls, as JSON. */
    static Serde<List<Long>> lists() {
        return Serdes.serdeFrom(
            (topic, values) -> {
                try {
                    return values == null ? null : Judge.JSON.writeValueAsBytes(values);
                } catch (final JsonProcessingException failure) {
                    throw new IllegalStateException(failure);
                }
            },
            (topic, bytes) -> {
                try {
                    return bytes == null ? null : Judge.JSON.readValue(bytes, new TypeReference<List<Long>>() { });
                } catch (final IOException failure) {
                    throw new IllegalStateException(failure);
                }
            });
    }
}
