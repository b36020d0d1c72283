package control

import (
	"math"
	"strings"
	"testing"
	"time"
)

// A service that hangs receives many requests and answers hardly any, with its limit full: that is overload, not a lack
// of traffic. The limit is cut once per settling time by the largest step, and recovers with the service.
func TestHangIsCutForOnceASettlingTime(t *testing.T) {
	r := newRig(t, checkout(), 400)
	hang := load{rate: 400, refused: 380, inFlight: 400, binding: 1, limit: 400}.measurement()
	hang.Instances[0].Completed, hang.Instances[0].Mean = Read(3), Missing(NaN, "0/0")

	var cuts []time.Time
	for range 24 {
		from := r.in.Value
		d := r.step(hang)
		if !strings.Contains(d.Reason, "hang") {
			t.Fatalf("the decision does not name the hang: %s", d.Reason)
		}
		if d.Value < Number(from) {
			cuts = append(cuts, r.now)
			if math.Log(from/float64(d.Value)) > 0.7+1e-9 {
				t.Errorf("cut from %v to %v, beyond the slew limit", from, d.Value)
			}
		}
	}
	for i := 1; i < len(cuts); i++ {
		if gap := cuts[i].Sub(cuts[i-1]); gap < timing5.Settle() {
			t.Errorf("cuts %v apart, settling takes %v", gap, timing5.Settle())
		}
	}
	if len(cuts) != 5 || r.in.Value > 20 {
		t.Errorf("%d cuts to %v in two minutes", len(cuts), r.in.Value)
	}

	low := r.in.Value
	for range 12 {
		l := r.in.Value
		r.step(load{rate: 400, refused: 400 - l/0.05, mean: 0.05, p99: 0.1, inFlight: l, binding: 1, limit: l}.measurement())
	}
	if r.in.Value <= low {
		t.Errorf("a minute after the hang the limit is still %v", r.in.Value)
	}
}

// Few completions alone are no hang: an idle service has none, and a limit that is not full refuses nobody.
func TestFewCompletionsWithRoomAreNoHang(t *testing.T) {
	r := newRig(t, checkout(), 96)
	quiet := load{rate: 400, inFlight: 10, limit: 96}.measurement()
	quiet.Instances[0].Completed, quiet.Instances[0].Mean = Read(0), Missing(NaN, "0/0")
	wantHold(t, r.step(quiet), NoData)
}
