defmodule MixGuest do
  @moduledoc "A Python generator as an Enumerable."

  def words(text), do: :py.enumerable(:guest_words, :words, [text])
end
