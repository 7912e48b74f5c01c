// Package metrics counts what a program that runs for long does, and serves the counts in Prometheus'
// text format.
package metrics

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/hsmkeys/hsmkeys/token"
)

// A Meter counts. A nil Meter counts nothing.
type Meter struct {
	prefix string
	set    *metrics.Set
}

// New returns a meter whose metrics begin with a prefix.
func New(prefix string) *Meter {
	return &Meter{prefix: prefix, set: metrics.NewSet()}
}

// buckets are the upper limits of the histograms of latencies, in seconds: what a processor takes, a
// network HSM, a smart card.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Operation counts an operation, the time that it took, and if it failed the PKCS #11 return value, such
// as CKR_DEVICE_REMOVED, or "other".
func (m *Meter) Operation(operation string, took time.Duration, err error) {
	if m == nil {
		return
	}
	result := "ok"
	if err != nil {
		result = "failed"
		cause := token.ReturnValue(err)
		if cause == "" {
			cause = "other"
		}
		m.set.GetOrCreateCounter(fmt.Sprintf("%s_errors_total{operation=%q,error=%q}", m.prefix, operation, cause)).Inc()
	}
	m.set.GetOrCreateCounter(fmt.Sprintf("%s_operations_total{operation=%q,result=%q}", m.prefix, operation, result)).Inc()
	m.set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("%s_operation_seconds{operation=%q}", m.prefix, operation), buckets).Update(took.Seconds())
}

// Healthy sets whether the program works.
func (m *Meter) Healthy(yes bool) {
	if m == nil {
		return
	}
	value := 0.0
	if yes {
		value = 1
	}
	m.set.GetOrCreateGauge(m.prefix+"_healthy", nil).Set(value)
}

// Gauge adds a value that is asked for whenever the metrics are read.
func (m *Meter) Gauge(name string, value func() float64) {
	if m != nil {
		m.set.NewGauge(m.prefix+"_"+name, value)
	}
}

// Serve serves the metrics at /metrics on an address until stop is called.
func (m *Meter) Serve(address string) (stop func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		m.set.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			_ = l.Close()
		}
	}()
	return func() { _ = server.Close() }, nil
}
