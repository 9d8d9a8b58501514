%% @doc Events for the application `telemetry', if it is there. docs/operations.md has the
%% table of them.
%% @hidden
-module(py_telemetry).

-export([load/0, is_on/0, event/3]).

%% @doc Loads telemetry's code if it can be found, for {@link is_on/0}.
-spec load() -> ok.
load() ->
    _ = code:ensure_loaded(telemetry),
    ok.

%% @doc Whether there is somebody to send events to.
-spec is_on() -> boolean().
is_on() ->
    erlang:function_exported(telemetry, execute, 3) andalso has_handlers().

%% Not by telemetry's own functions, which cost more than what this saves. If its table has
%% another name some day, every event is sent.
has_handlers() ->
    case ets:info(telemetry_handler_table, size) of
        0 -> false;
        _ -> true
    end.

%% @doc Sends an event.
-spec event([atom(), ...], #{atom() => term()}, #{atom() => term()}) -> ok.
event(Name, Measurements, Metadata) ->
    case is_on() of
        true ->
            %% By a variable: the library does not depend on it.
            Telemetry = telemetry,
            Telemetry:execute([erlang_python | Name], Measurements, Metadata);
        false ->
            ok
    end.
