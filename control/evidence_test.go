package control

import (
	"math"
	"testing"
	"time"
)

// quiet is one window of a service with 38 requests of 80 ms in it: three windows are enough to judge by.
func quiet(instances ...string) Measurement {
	m := Measurement{Service: "checkout", Window: 20 * time.Second, Quantile: Read(0.16)}
	for _, name := range instances {
		n := 38 / float64(len(instances))
		m.Instances = append(m.Instances, Instance{
			Name: name, Age: Read(2), Offered: Read(n), Admitted: Read(n), Refused: Read(0), Completed: Read(n), Failed: Read(0),
			Slow: Read(0), Mean: Read(0.08), InFlight: Read(1), Limit: Read(96), Binding: Read(0),
		})
	}
	return m
}

// TestEvidenceLeavesOutWhatWasInDoubt: a window that was contradictory or partial when it was measured is no better
// evidence a minute later.
func TestEvidenceLeavesOutWhatWasInDoubt(t *testing.T) {
	for name, spoil := range map[string]func(*Measurement){
		"contradictory": func(m *Measurement) { m.Instances[0].Mean = Read(0) },
		"partial":       func(m *Measurement) { m.Partial, m.Instances[0].Mean = "a store did not answer", Read(0.01) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, checkout(), 96)
			for range 20 {
				m := quiet("a")
				spoil(&m)
				r.step(m)
			}
			decided := false
			for range 20 {
				d := r.step(quiet("a"))
				if d.HoldReason == TooLittleTraffic {
					continue
				}
				decided = true
				if math.Abs(float64(d.Measured)-0.08) > 1e-9 {
					t.Fatalf("a mean of %v s, of which only windows in doubt know: %s", d.Measured, d.Reason)
				}
			}
			if !decided {
				t.Error("100 s of good windows were not enough")
			}
		})
	}
}

// TestEvidenceOfAnInstanceThatStarted: while an instance starts it cannot be judged. Afterwards its windows count, and those
// in which it started do not make all of them unknown.
func TestEvidenceOfAnInstanceThatStarted(t *testing.T) {
	r := newRig(t, checkout(), 96)
	for range 20 {
		r.step(quiet("a", "b"))
	}
	for range 4 {
		m := quiet("a", "b")
		b := &m.Instances[1]
		for _, reading := range []*Reading{
			&b.Age, &b.Offered, &b.Admitted, &b.Refused, &b.Completed, &b.Failed, &b.Slow, &b.Mean, &b.Binding,
		} {
			*reading = Missing(Starting, "first seen within the last 20s")
		}
		r.step(m)
	}
	for range 20 {
		if d := r.step(quiet("a", "b")); d.HoldReason != "" {
			t.Fatalf("an instance that has started keeps the others waiting: %s", d.Reason)
		}
	}
}
