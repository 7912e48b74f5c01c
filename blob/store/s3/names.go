package s3

import (
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Names returns, for command-line completion, the names of keys that start with prefix, up to the next slash
// after it. A name that continues ends with that slash. Only valid key names are returned. Names stops at the
// first error.
func (s *Store) Names(ctx context.Context, prefix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		above, err := s.level(ctx, blob.KeysPrefix+prefix)
		if err != nil {
			return
		}
		for _, dir := range above.dirs {
			name := strings.TrimPrefix(dir, blob.KeysPrefix)
			if blob.ValidName(name) != nil {
				continue
			}
			below, err := s.level(ctx, dir+"/")
			if err != nil {
				return
			}
			if below.objects > 0 && !yield(name) || len(below.dirs) > 0 && !yield(name+"/") {
				return
			}
		}
	}
}

// A level is the first page of the keys below a prefix, grouped at the next slash.
type level struct {
	dirs    []string // without the trailing slash
	objects int
}

func (s *Store) level(ctx context.Context, prefix string) (l level, err error) {
	var page *s3.ListObjectsV2Output
	err = s.do(ctx, func(ctx context.Context) (err error) {
		page, err = s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: s.bucket(), Prefix: s.key(prefix), Delimiter: aws.String("/"), EncodingType: types.EncodingTypeUrl})
		return s.classify(err, listBucket)
	}, nil)
	if err != nil {
		return l, err
	}
	for _, p := range page.CommonPrefixes {
		dir, _ := s.path(p.Prefix, page.EncodingType)
		if dir = strings.TrimSuffix(dir, "/"); blob.ValidDir(dir) {
			l.dirs = append(l.dirs, dir)
		}
	}
	for _, o := range page.Contents {
		if path, _ := s.path(o.Key, page.EncodingType); blob.ValidPath(path) == nil {
			l.objects++
		}
	}
	return l, nil
}
