package hsmkeys

import (
	"fmt"
	"testing"
)

func TestSampleOfRefs(t *testing.T) {
	t.Parallel()
	var refs []Ref
	for i := range 40 {
		refs = append(refs, Ref{Name: fmt.Sprint("k", i), Version: 1})
	}
	for _, test := range []struct {
		sample Sample
		want   int
	}{
		{Sample{Keys: 1}, 1}, {Sample{Keys: 7}, 7}, {Sample{Keys: 40}, 40}, {Sample{Keys: 41}, 40},
		{Sample{Percent: 0.1}, 1}, {Sample{Percent: 10}, 4}, {Sample{Percent: 10.1}, 5}, {Sample{Percent: 100}, 40},
	} {
		everChosen := map[Ref]bool{}
		for range 300 { // with one of 40 a time, a key is left out of all by a chance of 1 in 2,000
			chosen, err := test.sample.Of(refs)
			if err != nil || len(chosen) != test.want {
				t.Fatalf("%+v: %d keys, %v; want %d", test.sample, len(chosen), err, test.want)
			}
			once := map[Ref]bool{}
			for _, ref := range chosen {
				once[ref], everChosen[ref] = true, true
			}
			if len(once) != len(chosen) {
				t.Fatalf("%+v: a key was chosen twice: %v", test.sample, chosen)
			}
		}
		if len(everChosen) < 35 {
			t.Errorf("%+v: only %d keys are ever chosen", test.sample, len(everChosen))
		}
	}
	for _, wrong := range []Sample{{}, {Keys: -1}, {Percent: 101}, {Keys: 1, Percent: 1}} {
		if chosen, err := wrong.Of(refs); err == nil {
			t.Errorf("%+v: %v", wrong, chosen)
		}
	}
}
