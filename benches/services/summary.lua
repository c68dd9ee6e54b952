-- What wrk counted, on one line that the bench reads: requests, seconds, answers that were not 2xx or 3xx, broken
-- connections, timeouts.
done = function(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("summary %d %.6f %d %d %d\n", summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write, errors.timeout))
end
