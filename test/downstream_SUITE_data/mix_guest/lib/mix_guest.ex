defmodule MixGuest do
  @moduledoc "Makes an Elixir stream of a Python generator."

  def stream(module, function, args) do
    Stream.resource(
      fn -> start(module, function, args) end,
      fn ref ->
        case :py.stream_next(ref) do
          {:ok, value} -> {[value], ref}
          :done -> {:halt, ref}
        end
      end,
      fn ref -> :py.stream_cancel(ref, [:flush]) end
    )
  end

  defp start(module, function, args) do
    {:ok, ref} = :py.stream_start(module, function, args)
    ref
  end
end
