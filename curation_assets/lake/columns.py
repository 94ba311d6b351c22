"""Columns of a table as they are stored: the spec's, and those that users added; rows of files brought to them."""

from __future__ import annotations

import pyarrow as pa
from deltalake import DeltaTable

from curation_assets.lake.schemas import TableSpec


def stored_schema(table: DeltaTable, spec: TableSpec) -> pa.Schema:
    """Columns of a table, in its order, with the types that its files are written in.

    Columns of the spec that an older table lacks are not among them.
    """
    known = {column.name: column.type for column in spec.columns}
    return pa.schema(
        [pa.field(f.name, known.get(f.name, _plain(f.type))) for f in pa.schema(table.schema().to_arrow())]
    )


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows with the columns of a schema, in its order and types; what they lack is null.

    Other writers' files hold the same values in other types of Arrow (``string_view``, ``large_string``).

    Raises:
        ValueError: there is a column that the schema has not, or values that its type can't hold.
    """
    if batch.schema.equals(schema):
        return batch
    unknown = set(batch.schema.names) - set(schema.names)
    if unknown:
        raise ValueError(f"rows have columns {', '.join(sorted(unknown))}, which the table has not")
    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
        else:
            column = batch.column(index)
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
    return pa.record_batch(columns, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type without views and large offsets, which not every reader takes."""
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain(field.type)) for field in kind])
    return kind
