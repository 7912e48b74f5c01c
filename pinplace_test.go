package hsmkeys_test

import (
	"context"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
)

func TestPinPlaceIsWhereThePinIs(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, "pinned")
	store, _ := newStore(t)
	before := time.Now().Add(-2 * time.Second)
	k, err := hsmkeys.Init(ctx, hsmkeys.Options{Store: store, Pair: s.pair}, "owner")
	if err != nil {
		t.Fatal(err)
	}
	if place, err := k.PinPlace(ctx); err != nil || place.Token != 1 || place.File != 0 {
		t.Errorf("got %+v, %v", place, err)
	}
	if signed := k.State().Signed; signed.Before(before) || signed.After(time.Now()) {
		t.Errorf("signed %v", signed)
	}
	records, err := s.tok.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := s.tok.DeleteRecord(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if place, err := k.PinPlace(ctx); err == nil {
		t.Errorf("a pin that is gone is at %+v", place)
	}
	without, err := hsmkeys.OpenWithCertificate(ctx, hsmkeys.Options{Store: store, Voucher: s.cert})
	if err != nil {
		t.Fatal(err)
	}
	if place, err := without.PinPlace(ctx); err == nil {
		t.Errorf("without a token there is a pin at %+v", place)
	}
}
