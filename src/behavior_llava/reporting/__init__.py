"""The report: claims, tables, charts and the static page that shows them."""
