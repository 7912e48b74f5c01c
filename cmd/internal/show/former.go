package show

import (
	"context"
	"fmt"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// WarnFormer warns of former members that can open a key, and so read what is encrypted under it
// now.
func WarnFormer(ctx context.Context, k *hsmkeys.Keyring, ref hsmkeys.Ref) {
	former, err := k.FormerHolders(ctx, ref)
	if err != nil {
		message.Warn(err)
	}
	if len(former) == 0 {
		return
	}
	var who, prints []string
	for _, h := range former {
		who, prints = append(who, fmt.Sprintf("the %s %q", h.Role, h.Label)), append(prints, formerFingerprint(k, h))
	}
	it, certificates := "it", "its certificate"
	if len(who) > 1 {
		it, certificates = "they", "their certificates"
	}
	mend := fmt.Sprintf("hsmkeys rotate %s makes a version that %s cannot open", ref.Name, it)
	if newest, err := k.Show(ctx, hsmkeys.Ref{Name: ref.Name}); err == nil && ref.Version > 0 && newest.Version > ref.Version {
		mend = fmt.Sprintf("there is a newer version, which --key %s without @%d takes", ref.Name, ref.Version)
	}
	message.Warn(fmt.Errorf("%s can open key %q, and read what is encrypted under it now; %s (%s: SHA-256 %s)", text.Enumerate(who), ref, mend, certificates, text.Enumerate(prints)))
}

// formerFingerprint returns the fingerprint of a former member's last certificate.
func formerFingerprint(k *hsmkeys.Keyring, h hsmkeys.Holder) string {
	for _, m := range k.FormerMembers() {
		if MemberOf(m).SubjectKeyID == h.SubjectKeyID {
			return Fingerprint(m.Certificate)
		}
	}
	return "unknown"
}
