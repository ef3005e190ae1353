#!/bin/sh
# splice.sh PAGE NAME TEXT: puts the file TEXT between the lines `<!-- NAME -->` and `<!-- end of NAME -->` of PAGE.
set -eu
page=$1 name=$2 text=$3
for line in "<!-- $name -->" "<!-- end of $name -->"; do
    grep -qxF "$line" "$page" || { echo "$page has no line \"$line\"" >&2; exit 1; }
done
awk -v start="<!-- $name -->" -v end="<!-- end of $name -->" '
    NR == FNR { text = text $0 "\n"; next }
    $0 == end { skip = 0 }
    !skip { print }
    $0 == start { printf "%s", text; skip = 1 }
' "$text" "$page" >"$page.new"
mv "$page.new" "$page"
