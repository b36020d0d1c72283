package guard

import (
	"testing"
	"time"
)

func TestHintAfterASecondOfUnbrokenRefusing(t *testing.T) {
	refuseEvery := func(h *hint, from, to, gap time.Duration) (last bool) {
		for at := from; at <= to; at += gap {
			last = h.refused(at)
		}
		return last
	}
	var h hint
	if refuseEvery(&h, 0, 990*time.Millisecond, 10*time.Millisecond) {
		t.Error("the hint came within the first second")
	}
	if !h.refused(time.Second) {
		t.Error("no hint after a second")
	}
	if h.refused(1501 * time.Millisecond) {
		t.Error("the hint outlived a pause of half a second")
	}
	if !refuseEvery(&h, 1600*time.Millisecond, 3*time.Second, 400*time.Millisecond) {
		t.Error("no hint though refusals come every 400 ms")
	}
	if h.refused(time.Hour) {
		t.Error("the hint outlived a good hour")
	}
}

func TestHintStandsAsLongAsARefusalWouldCarryIt(t *testing.T) {
	var h hint
	if h.stands(time.Hour) {
		t.Error("it stands before anything was refused")
	}
	for at := time.Duration(0); at < 2*time.Second; at += 100 * time.Millisecond {
		said := h.refused(at)
		for range 2 { // asking notes nothing
			if h.stands(at) != said {
				t.Errorf("after %v: stands %t, the refusal said %t", at, !said, said)
			}
		}
	}
	if !h.stands(2400*time.Millisecond) || h.stands(2401*time.Millisecond) {
		t.Error("it does not end half a second after the last refusal, at 1.9 s")
	}
}
